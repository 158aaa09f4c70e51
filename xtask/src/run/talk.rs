//! Talks to a run under way: to its guests' shells and to Trivet's monitor.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hv_core::link::{CommandResult, Outcome, Stream, frames};

use super::shell;
use super::watch::{Waited, Watch};
use super::world::{End, State, World};
use crate::emulator::Emulator;
use crate::guests::READY;

/// How long a guest without the default RAM disk must be silent for a prompt to count.
const QUIET_PROMPT: Duration = Duration::from_millis(500);
/// How long the machine may take to switch itself off once every guest is off.
const POWER_OFF: Duration = Duration::from_secs(20);

/// A conversation.
pub struct Talk<'a> {
    /// What is heard.
    pub watch: Watch<'a>,
    timeout: Duration,
    /// For each VM the start after which its shell was made quiet.
    ready: Vec<Option<Instant>>,
    marks: u32,
}

/// A command that a guest's shell is carrying out.
#[derive(Clone, Debug)]
pub struct Exec {
    vm: usize,
    number: u32,
    command: String,
    limit: Duration,
    deadline: Instant,
}

/// What is heard of a command since it was last asked for.
pub struct Heard {
    /// Its output.
    pub output: Vec<u8>,
    /// Its status, once it has ended.
    pub status: Option<u8>,
}

impl<'a> Talk<'a> {
    /// With an emulator that has just been started. `timeout` is until a shell must be there, and for each command.
    pub fn new(emulator: &'a mut Emulator, world: &'a mut World, timeout: Duration) -> Self {
        let ready = vec![None; world.vms.len()];
        Self { watch: Watch::new(emulator, world), timeout, ready, marks: 0 }
    }

    /// Waits until Trivet is up.
    pub fn boot(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.timeout;
        match self.watch.wait(deadline, |world| world.booted)? {
            Waited::Yes => Ok(()),
            Waited::TimedOut => bail!("Trivet did not come up within {} s (--timeout)", self.timeout.as_secs()),
            Waited::Ended(status) => bail!("the emulator ended ({status}) before Trivet came up"),
        }
    }

    /// Has a guest's shell begin a command, which may take `limit`; waits for the shell.
    pub fn begin(&mut self, vm: usize, command: &str, limit: Duration) -> Result<Exec> {
        self.make_ready(vm)?;
        self.marks += 1;
        let number = self.marks;
        let Some(text) = shell::typed(number, command) else {
            bail!("--exec {command:?} is too long for a guest's console");
        };
        self.watch.type_to(vm, &text);
        Ok(Exec { vm, number, command: command.to_owned(), limit, deadline: Instant::now() + limit })
    }

    /// What is heard of a command by `until` at the latest; returns earlier if there is anything. That it does not end in
    /// its time, or that its VM does, is an error.
    pub fn hear(&mut self, exec: &Exec, until: Instant) -> Result<Heard> {
        let (vm, command, name) = (exec.vm, &exec.command, self.watch.name(exec.vm));
        loop {
            if let Some(found) = self.watch.world.vms.get_mut(vm).map(|vm| shell::scan(&mut vm.unread, exec.number))
                && (found.status.is_some() || !found.output.is_empty())
            {
                return Ok(Heard { output: found.output, status: found.status });
            }
            let held = self.watch.world.vms.get(vm).map_or(0, |vm| vm.unread.len());
            let changed =
                |world: &World| world.vms.get(vm).is_none_or(|vm| vm.unread.len() != held || vm.state != State::Runs);
            let waited = self.watch.wait(until.min(exec.deadline), changed)?;
            if let Some(State::Ended(end)) = self.watch.state(vm) {
                bail!("guest {name} {} during --exec {command:?}", said(&end));
            }
            match waited {
                Waited::Yes => {}
                Waited::TimedOut if Instant::now() < exec.deadline => {
                    return Ok(Heard { output: Vec::new(), status: None });
                }
                Waited::TimedOut => {
                    let limit = exec.limit.as_secs();
                    bail!("--exec {command:?} in guest {name} did not end within {limit} s (--timeout)")
                }
                Waited::Ended(status) => {
                    bail!("the machine was switched off ({status}) before --exec {command:?} ended")
                }
            }
        }
    }

    /// Runs a command in a guest's shell to its end and hands its output to `take`; returns its status.
    pub fn exec(&mut self, vm: usize, command: &str, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<u8> {
        let exec = self.begin(vm, command, self.timeout)?;
        loop {
            let heard = self.hear(&exec, exec.deadline)?;
            take(&heard.output)?;
            if let Some(status) = heard.status {
                return Ok(status);
            }
        }
    }

    /// Has the monitor carry out a line and hands its output to `take`; what the monitor says of how it went.
    pub fn monitor(&mut self, line: &str, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<CommandResult> {
        self.boot()?;
        for frame in frames(Stream::Monitor, format!("{line}\n").as_bytes()) {
            self.watch.emulator.send(frame.as_bytes());
        }
        let deadline = Instant::now() + self.timeout;
        loop {
            let output: Vec<u8> = self.watch.world.monitor.drain(..).filter(|byte| *byte != b'\r').collect();
            take(&output)?;
            match self.watch.world.monitor_done.pop_front() {
                Some(CommandResult::Done) if line.trim() == "poweroff" => {
                    // Done as soon as it is asked for; what comes after it in the order given finds no machine.
                    self.watch.wait(deadline, |_| false)?;
                    return Ok(CommandResult::Done);
                }
                Some(result) => return Ok(result),
                None => {}
            }
            match self.watch.wait(deadline, |world| !world.monitor.is_empty() || !world.monitor_done.is_empty())? {
                Waited::Yes => {}
                Waited::TimedOut => {
                    bail!("Trivet's monitor did not answer {line:?} within {} s", self.timeout.as_secs())
                }
                // `poweroff` is answered by going.
                Waited::Ended(_) if self.watch.world.outcome.is_some() => return Ok(CommandResult::Done),
                Waited::Ended(status) => {
                    bail!("the machine was switched off ({status}) before --monitor {line:?} ended")
                }
            }
        }
    }

    /// Waits for a guest's shell and makes it quiet.
    pub fn make_ready(&mut self, vm: usize) -> Result<()> {
        self.boot()?;
        let started = self.watch.started(vm);
        if self.ready.get(vm).copied().flatten() == Some(started) {
            return Ok(());
        }
        let name = self.watch.name(vm);
        let deadline = started + self.timeout;
        let late = format!("guest {name} did not reach its shell within {} s (--timeout)", self.timeout.as_secs());
        while !self.at_shell(vm) {
            let soon = Instant::now() + Duration::from_millis(100);
            let waited = self.watch.wait(soon.min(deadline), |_| false)?;
            if let Some(State::Ended(end)) = self.watch.state(vm) {
                bail!("guest {name} {} before it reached its shell", said(&end));
            }
            match waited {
                Waited::Ended(status) => {
                    bail!("the machine was switched off ({status}) before guest {name} reached its shell")
                }
                _ if Instant::now() >= deadline => bail!("{late}"),
                _ => {}
            }
        }
        self.marks += 1;
        let number = self.marks;
        self.watch.type_to(vm, &shell::quiet(number));
        let done = self.wait_for_mark(vm, number, deadline)?;
        if !done {
            bail!("{late}: there is a prompt, but no answer");
        }
        if let Some(ready) = self.ready.get_mut(vm) {
            *ready = Some(self.watch.started(vm));
        }
        Ok(())
    }

    /// True if a guest that was just booted is at its shell's prompt.
    pub fn at_shell(&self, vm: usize) -> bool {
        let (marked, prompt, runs) = self.watch.world.vms.get(vm).map_or((false, false, false), |vm| {
            let marked = vm.unread.windows(READY.len()).any(|part| part == READY.as_bytes());
            (marked, shell::at_prompt(&vm.unread), vm.state == State::Runs)
        });
        runs && prompt && (marked || self.watch.heard.elapsed() > QUIET_PROMPT)
    }

    fn wait_for_mark(&mut self, vm: usize, number: u32, deadline: Instant) -> Result<bool> {
        loop {
            let found = self.watch.world.vms.get_mut(vm).map(|vm| shell::scan(&mut vm.unread, number));
            if found.is_some_and(|found| found.status.is_some()) {
                return Ok(true);
            }
            let held = self.watch.world.vms.get(vm).map_or(0, |vm| vm.unread.len());
            match self.watch.wait(deadline, |world| world.vms.get(vm).is_none_or(|vm| vm.unread.len() != held))? {
                Waited::Yes => {}
                Waited::TimedOut | Waited::Ended(_) => return Ok(false),
            }
        }
    }

    /// Switches off every guest that runs, and waits for the machine to follow. That a guest had ended badly is an error.
    pub fn switch_off(&mut self) -> Result<()> {
        for vm in 0..self.watch.world.vms.len() {
            if self.watch.ended.is_some() || matches!(self.watch.state(vm), Some(State::Ended(_))) {
                continue;
            }
            self.make_ready(vm)?;
            self.watch.type_to(vm, "poweroff -f\n");
            let deadline = Instant::now() + self.timeout;
            let gone = |world: &World| world.vms.get(vm).is_none_or(|vm| matches!(vm.state, State::Ended(_)));
            if let Waited::TimedOut = self.watch.wait(deadline, gone)? {
                bail!("guest {} did not switch itself off within {} s", self.watch.name(vm), self.timeout.as_secs());
            }
        }
        let status = match self.watch.wait(Instant::now() + POWER_OFF, |_| false)? {
            Waited::Ended(status) => status,
            Waited::Yes | Waited::TimedOut => bail!("every guest is off, but the machine did not switch itself off"),
        };
        for vm in &self.watch.world.vms {
            if let State::Ended(end @ (End::Panic(_) | End::Other(_))) = &vm.state {
                bail!("guest {} {}", vm.name, said(end));
            }
        }
        match (self.watch.world.outcome, status.success()) {
            (Some(Outcome::Success), true) => Ok(()),
            (Some(Outcome::Failure), _) => bail!("Trivet reports that the run failed"),
            (_, false) => bail!("the emulator ended with {status}"),
            (None, true) => bail!("the machine went off without a verdict of Trivet"),
        }
    }
}

/// The end of a VM as the rest of a sentence.
fn said(end: &End) -> String {
    match end {
        End::PowerOff => "switched itself off".to_owned(),
        End::Stopped => "was stopped".to_owned(),
        End::Panic(words) => format!("panicked: {words}"),
        End::Other(how) => how.clone(),
    }
}
