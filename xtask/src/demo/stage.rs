//! The machine of a demo: which guests, with which program in their RAM disk; and a conversation with it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hv_core::link::{CommandResult, LinkMode, Outcome};

use crate::board::{Board, Machine};
use crate::bundle::{Temporary, pack};
use crate::emulator::{Emulator, Launch};
use crate::guests;
use crate::image::{self, Profile, Variant};
use crate::log::Log;
use crate::run::plan::{Plan, Wish};
use crate::run::tail::Echo;
use crate::run::talk::Talk;
use crate::run::watch::Waited;
use crate::run::world::{State, World};
use crate::units::Size;

/// How long a machine that was told to switch itself off may take.
const POWER_OFF: Duration = Duration::from_secs(20);

/// What a demo is played on.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The board.
    pub board: &'a Board,
    /// Which of its machines.
    pub machine: &'a Machine,
}

/// What is booted.
pub struct Stage<'a> {
    /// On what.
    pub place: &'a Place<'a>,
    /// The guests, as a manifest. Kernels and RAM disks that it does not name are the default guest's, with the program
    /// `pages` in it.
    pub manifest: String,
    /// Physical CPUs, where the machine can have so many.
    pub cpus: u16,
    /// Machine memory in MiB.
    pub memory: u64,
    /// How long a shell, a command or the monitor may take.
    pub timeout: Duration,
}

impl Stage<'_> {
    /// Boots it, plays, and ends it whatever came of it. What a failed run has said last is printed.
    pub fn play<T>(&self, act: impl FnOnce(&mut Talk<'_>) -> Result<T>) -> Result<T> {
        let Place { board, machine } = *self.place;
        let pages = guests::initrd_with(board, "pages", &image::guest(board, "pages")?)?;
        let initrd = Temporary::write("demo.cpio", &pages)?;
        let manifest = Temporary::write("demo.toml", self.manifest.as_bytes())?;
        let wish = Wish {
            guests: Some(manifest.path().to_owned()),
            kernel: None,
            initrd: Some(initrd.path().to_owned()),
            cpus: Some(self.cpus.min(board.max_cpus(machine))),
            memory: Some(Size(self.memory << 20)),
        };
        let plan = Plan::new(board, machine, &wish, LinkMode::Split)?;
        let image = image::build(board, Profile::Release, Variant::Guests)?;
        let bundle = Temporary::write("demo.tar", &pack(&plan.config, &plan.images)?)?;
        let mut emulator = Emulator::start(&Launch {
            board,
            machine,
            args: &board.emulator.args,
            cpus: plan.cpus,
            memory: plan.memory,
            image: &image,
            bundle: Some(bundle.path()),
        })?;
        let mut world = World::new(plan.names().into_iter(), Log::of(&image)?, Echo::Kept);
        let played = act(&mut Talk::new(&mut emulator, &mut world, self.timeout));
        if played.is_err() {
            world.finish();
            world.print_tails();
            let complaints = emulator.complaints();
            if !complaints.trim().is_empty() {
                eprintln!("--- {}, its complaints:\n{}", emulator.program(), complaints.trim_end());
            }
        }
        played
    }
}

/// How long something may take that takes `usual` at most on most machines: some are slow.
pub fn patience(place: &Place<'_>, usual: Duration) -> Duration {
    usual.max(Duration::from_secs(place.machine.timeout.unwrap_or(0)))
}

/// A bare-metal guest for a manifest.
pub fn kernel(board: &Board, name: &str) -> Result<PathBuf> {
    let file = image::guest(board, name)?;
    std::path::absolute(&file).with_context(|| format!("cannot name {}", file.display()))
}

/// What a command of the monitor prints; that it fails is an error.
pub fn monitor(talk: &mut Talk<'_>, line: &str) -> Result<String> {
    let mut text = Vec::new();
    let result = talk.monitor(line, &mut |part| {
        text.extend_from_slice(part);
        Ok(())
    })?;
    let text = String::from_utf8_lossy(&text).into_owned();
    match result {
        CommandResult::Done => Ok(text),
        CommandResult::Failed => bail!("the monitor's {line:?} failed: {}", text.trim_end()),
    }
}

/// What a command prints in a guest's shell; that it ends with another status than 0 is an error.
pub fn shell(talk: &mut Talk<'_>, vm: usize, command: &str) -> Result<String> {
    let mut text = Vec::new();
    let status = talk.exec(vm, command, &mut |part| {
        text.extend_from_slice(part);
        Ok(())
    })?;
    let text = String::from_utf8_lossy(&text).into_owned();
    match status {
        0 => Ok(text),
        _ => bail!("{command:?} ended with status {status} in guest {}:\n{text}", talk.watch.name(vm)),
    }
}

/// Work beside a guest's command.
pub trait Beside {
    /// A line that the command has printed.
    fn line(&mut self, line: &str);
    /// Called again and again while the command runs.
    fn chore(&mut self, talk: &mut Talk<'_>) -> Result<()>;
}

/// As [`shell`], for a command that may take `limit`, with other work every so often meanwhile.
pub fn shell_while(
    talk: &mut Talk<'_>,
    vm: usize,
    command: &str,
    limit: Duration,
    every: Duration,
    beside: &mut dyn Beside,
) -> Result<()> {
    let exec = talk.begin(vm, command, limit)?;
    let mut next = Instant::now() + every;
    let (mut last, mut line) = (String::new(), Vec::new());
    loop {
        let heard = talk.hear(&exec, next)?;
        for byte in heard.output {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            last = String::from_utf8_lossy(&line).trim_end().to_owned();
            beside.line(&last);
            line.clear();
        }
        match heard.status {
            Some(0) => return Ok(()),
            Some(status) => bail!("{command:?} ended with status {status} in guest {}: {last}", talk.watch.name(vm)),
            None if Instant::now() >= next => {
                if let Err(why) = beside.chore(talk) {
                    // Rather why the guest has ended, if it has.
                    talk.hear(&exec, Instant::now())?;
                    return Err(why);
                }
                next = Instant::now() + every;
            }
            None => {}
        }
    }
}

/// Has the monitor switch the machine off; Trivet's verdict.
pub fn power_off(talk: &mut Talk<'_>) -> Result<Outcome> {
    monitor(talk, "poweroff")?;
    match talk.watch.wait(Instant::now() + POWER_OFF, |_| false)? {
        Waited::Ended(_) => talk.watch.world.outcome.context("the machine went off without a verdict of Trivet"),
        Waited::Yes | Waited::TimedOut => bail!("the machine did not switch itself off"),
    }
}

/// Waits for a guest's line `wanted`.
pub fn said(talk: &mut Talk<'_>, vm: usize, wanted: &str, limit: Duration) -> Result<()> {
    let there = |world: &World| {
        world.vms.get(vm).is_none_or(|vm| find(&vm.unread, wanted).is_some() || matches!(vm.state, State::Ended(_)))
    };
    match talk.watch.wait(Instant::now() + limit, there)? {
        Waited::Yes if line(talk, vm, wanted)?.is_some() => Ok(()),
        _ => bail!("the guest never said {wanted:?}"),
    }
}

/// The rest of a guest's line that begins with `start`, if it has said it. That it has ended is an error.
pub fn line(talk: &Talk<'_>, vm: usize, start: &str) -> Result<Option<String>> {
    let vm = talk.watch.world.vms.get(vm).context("there is a guest")?;
    if let State::Ended(end) = &vm.state {
        bail!("the guest ended early ({end:?}): {}", String::from_utf8_lossy(&vm.unread));
    }
    Ok(find(&vm.unread, start))
}

fn find(said: &[u8], start: &str) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
    whole.lines().find_map(|line| Some(line.trim_end().strip_prefix(start)?.to_owned()))
}

/// A count of a guest's guest in what `stat` prints.
pub fn nested_count(stat: &str, name: &str) -> Result<u64> {
    let line = format!("nested {name}: ");
    let text = stat.lines().find_map(|text| text.strip_prefix(&line));
    let text = text.with_context(|| format!("the monitor tells of no nested {name}:\n{stat}"))?;
    text.trim_end().parse().with_context(|| format!("nested {name}: {text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::{find, nested_count};

    #[test]
    fn a_line_counts_when_it_is_whole() {
        assert_eq!(find(b"READY\r\nDONE 12", "DONE "), None);
        assert_eq!(find(b"READY\r\nDONE 12\r\n", "DONE ").as_deref(), Some("12"));
    }

    #[test]
    fn a_count_is_found_by_its_whole_name() {
        let stat = "exits         7\nnested exits: 12\nnested faults: x\n";
        assert_eq!(nested_count(stat, "exits").unwrap(), 12);
        assert!(nested_count(stat, "faults").is_err() && nested_count(stat, "exit").is_err());
    }
}
