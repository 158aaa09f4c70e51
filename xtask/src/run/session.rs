//! Carries out `--exec` and `--monitor` in the order given, then switches everything off.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use hv_core::link::{CommandResult, Outcome};

use super::steps::Action;
use super::talk::Talk;
use super::world::World;
use crate::emulator::Emulator;

/// A run under way.
pub struct Session<'a> {
    talk: Talk<'a>,
}

impl<'a> Session<'a> {
    /// A session on an emulator that has just been started.
    pub fn new(emulator: &'a mut Emulator, world: &'a mut World, timeout: Duration) -> Self {
        Self { talk: Talk::new(emulator, world, timeout) }
    }

    /// Carries out `steps`; the error is what ended the run, a failed command only makes the result `Failure`.
    pub fn run(&mut self, steps: &[Action]) -> Result<Outcome> {
        let mut outcome = Outcome::Success;
        for step in steps {
            let failed = match step {
                Action::Exec { vm, command } => self.exec(*vm, command)?,
                Action::Monitor(line) => self.monitor(line)?,
            };
            if let Some(why) = failed {
                eprintln!("error: {why}");
                outcome = Outcome::Failure;
            }
        }
        self.talk.switch_off()?;
        Ok(outcome)
    }

    /// Runs a command in a guest's shell; returns what failed.
    fn exec(&mut self, vm: usize, command: &str) -> Result<Option<String>> {
        match self.talk.exec(vm, command, &mut print)? {
            0 => Ok(None),
            status => {
                let name = self.talk.watch.name(vm);
                Ok(Some(format!("--exec {command:?} ended with status {status} in guest {name}")))
            }
        }
    }

    /// Carries out a monitor command; returns what failed.
    fn monitor(&mut self, line: &str) -> Result<Option<String>> {
        match self.talk.monitor(line, &mut print)? {
            CommandResult::Done => Ok(None),
            CommandResult::Failed => Ok(Some(format!("--monitor {line:?} failed"))),
        }
    }
}

fn print(output: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(output)?;
    Ok(stdout.flush()?)
}
