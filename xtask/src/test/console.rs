//! What is typed reaches a guest that holds interrupts off soon after it turns them on, and one that sleeps.
//!
//! The guest in `tests/guests/console` measures by its own clock. On one physical CPU the emulator counts instructions,
//! so that clock is none of this machine's business and every figure has to be good. Two CPUs run side by side only
//! without counting; there this machine can stop the emulator at any moment, so it is the middle figure that has to be.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hv_core::guest::manifest::{Backing, Config, Granule, Huge, OutOfMemory, VmConfig};
use hv_core::link::{LinkMode, Outcome, Stream, frames};

use crate::board::Board;
use crate::bundle::{Image, Temporary, pack};
use crate::emulator::{Emulator, Launch};
use crate::image::{self, Profile, Variant};
use crate::log::Log;
use crate::run::tail::Echo;
use crate::run::watch::{Waited, Watch};
use crate::run::world::{End, State, World};

/// Most microseconds until the guest's vector is entered.
const MOST: u64 = 20_000;
/// How long one run may take on this machine: it decides nothing but when a run that hangs is given up.
const LIMIT: Duration = Duration::from_secs(240);
/// Memory of each guest.
const MEMORY: u64 = 64 << 20;
/// The VM that measures; the other one spins.
const MEASURING: usize = 0;

/// How time passes in the emulator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// With the instructions carried out.
    Counted,
    /// With this machine's.
    Real,
}

/// One run.
struct Case {
    name: &'static str,
    cpus: u16,
    vms: usize,
    clock: Clock,
}

const CASES: &[Case] = &[
    Case { name: "one CPU", cpus: 1, vms: 1, clock: Clock::Counted },
    Case { name: "one CPU, another VM spins", cpus: 1, vms: 2, clock: Clock::Counted },
    Case { name: "two CPUs", cpus: 2, vms: 1, clock: Clock::Real },
    Case { name: "two CPUs, another VM spins", cpus: 2, vms: 2, clock: Clock::Real },
];

/// Runs every case on these boards.
pub fn run(profile: Profile, boards: &[Board]) -> Result<()> {
    for board in boards {
        let image = image::build(board, profile, Variant::Guests)?;
        let guest = image::guest(board, "console")?;
        let args = |case: &Case| match case.clock {
            Clock::Counted => board.emulator.counting(),
            Clock::Real => Some(&*board.emulator.args),
        };
        for (case, args) in CASES.iter().filter_map(|case| Some((case, args(case)?))) {
            let figures = case.run(board, args, &image, &guest).with_context(|| case.name)?;
            println!("ok {}: {figures:?} microseconds", case.name);
            let judged = case.judged(&figures).with_context(|| format!("{}: there was no round", case.name))?;
            if judged > MOST {
                bail!("{}: {judged} of {figures:?} microseconds, at most {MOST} are allowed", case.name);
            }
        }
    }
    Ok(())
}

impl Case {
    /// The figure that has to be good.
    fn judged(&self, figures: &[u64]) -> Option<u64> {
        let mut sorted = figures.to_vec();
        sorted.sort_unstable();
        match self.clock {
            Clock::Counted => sorted.last().copied(),
            Clock::Real => sorted.get(sorted.len() / 2).copied(),
        }
    }

    /// Boots, types, returns what the guest measured.
    fn run(&self, board: &Board, args: &[String], image: &Path, guest: &Path) -> Result<Vec<u64>> {
        let guest = Image { member: "guest-console".to_owned(), file: guest.to_owned() };
        let roles = [("measures", ""), ("spins", "spin")].into_iter().take(self.vms);
        let vms = roles.map(|(name, cmdline)| VmConfig {
            name: name.to_owned(),
            vcpus: 1,
            memory: MEMORY,
            backing: Backing::Anon,
            huge: Huge::Always,
            granule: Granule::Page,
            shared: None,
            swap: true,
            out_of_memory: OutOfMemory::Stop,
            dirty_log: false,
            nested: false,
            kernel: guest.member.clone(),
            initrd: None,
            cmdline: cmdline.to_owned(),
        });
        let config = Config { link: LinkMode::Split, vms: vms.collect() };
        let names = config.vms.iter().map(|vm| vm.name.clone()).collect::<Vec<_>>();
        let bundle = Temporary::write("console.tar", &pack(&config, &[guest])?)?;
        let mut world = World::new(names.into_iter(), Log::of(image)?, Echo::Kept);
        let mut emulator = Emulator::start(&Launch {
            board,
            machine: board.machine(None)?,
            args,
            cpus: self.cpus,
            memory: board.memory,
            image,
            bundle: Some(bundle.path()),
        })?;
        let figures = rounds(&mut Watch::new(&mut emulator, &mut world), self.vms);
        if figures.is_err() {
            world.finish();
            world.print_tails();
        }
        figures
    }
}

/// Types a character whenever the guest is ready for one, until it has switched itself off; then ends the run.
fn rounds(watch: &mut Watch<'_>, vms: usize) -> Result<Vec<u64>> {
    let deadline = Instant::now() + LIMIT;
    let mut keys = 'a'..='z';
    let mut figures = Vec::new();
    let mut done = false;
    loop {
        let news = |world: &World| {
            let vm = world.vms.get(MEASURING);
            vm.is_none_or(|vm| vm.unread.contains(&b'\n') || matches!(vm.state, State::Ended(_)))
        };
        match watch.wait(deadline, news)? {
            Waited::Yes => {}
            Waited::TimedOut => bail!("the guest did not end within {} s, after {figures:?}", LIMIT.as_secs()),
            Waited::Ended(status) => bail!("the machine was switched off ({status}) before the guest"),
        }
        while let Some(line) = watch.world.vms.get_mut(MEASURING).and_then(|vm| line(&mut vm.unread)) {
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("READY", "") => {
                    let key = keys.next().context("the guest wants more characters than there are")?;
                    watch.type_to(MEASURING, &key.to_string());
                }
                ("LATENCY", figure) => figures.push(figure.parse().with_context(|| format!("odd line {line:?}"))?),
                ("DONE", "") => done = true,
                _ => bail!("odd line {line:?}"),
            }
        }
        match watch.state(MEASURING) {
            Some(State::Ended(End::PowerOff)) if done => break,
            Some(State::Ended(end)) => bail!("the guest ended early ({end:?}), after {figures:?}"),
            _ => {}
        }
    }
    if vms > 1 {
        for frame in frames(Stream::Monitor, b"poweroff\n") {
            watch.emulator.send(frame.as_bytes());
        }
    }
    match watch.wait(deadline, |_| false)? {
        Waited::Ended(status) if status.success() && watch.world.outcome == Some(Outcome::Success) => Ok(figures),
        Waited::Ended(status) => bail!("the machine ended with {status}, Trivet with {:?}", watch.world.outcome),
        Waited::Yes | Waited::TimedOut => bail!("the guest is off, but the machine did not switch itself off"),
    }
}

/// Takes the first whole line.
fn line(unread: &mut Vec<u8>) -> Option<String> {
    let end = unread.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = unread.drain(..=end).collect();
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{CASES, Clock, line};

    #[test]
    fn under_counting_every_figure_is_judged_and_else_the_middle_one() {
        for case in CASES {
            let judged = case.judged(&[30_000, 10, 20, 40, 25_000]);
            assert_eq!(judged, Some(if case.clock == Clock::Counted { 30_000 } else { 40 }), "{}", case.name);
            assert_eq!(case.judged(&[]), None);
        }
    }

    #[test]
    fn lines_are_taken_whole() {
        let mut unread = b"READY\r\nLATEN".to_vec();
        assert_eq!(line(&mut unread).as_deref(), Some("READY"));
        assert_eq!((line(&mut unread), unread.as_slice()), (None, &b"LATEN"[..]));
    }
}
