//! Waits for something to be known of a run, and notices whatever ends it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hv_core::link::{Stream, frames};

use super::world::{End, State, World};
use crate::emulator::{Emulator, Exit, Happened};

/// How long is waited for the rest of a report after a failure.
const AFTERMATH: Duration = Duration::from_secs(2);

/// An emulator, and what is known of the run in it.
pub struct Watch<'a> {
    /// The emulator.
    pub emulator: &'a mut Emulator,
    /// What is known.
    pub world: &'a mut World,
    /// How the emulator ended, if it has.
    pub ended: Option<Exit>,
    /// When something was last heard.
    pub heard: Instant,
    /// When each VM was last started.
    since: Vec<Instant>,
}

/// Why waiting ended.
pub enum Waited {
    /// What was waited for is there.
    Yes,
    /// The deadline has passed.
    TimedOut,
    /// The emulator has ended.
    Ended(Exit),
}

impl<'a> Watch<'a> {
    /// Watches an emulator that has just been started.
    pub fn new(emulator: &'a mut Emulator, world: &'a mut World) -> Self {
        let now = Instant::now();
        let since = vec![now; world.vms.len()];
        Self { emulator, world, ended: None, heard: now, since }
    }

    /// When a VM was last started; before that, when the emulator was.
    pub fn started(&self, vm: usize) -> Instant {
        self.since.get(vm).copied().unwrap_or(self.heard)
    }

    /// Takes in what comes, until `enough` or the deadline. What ends a run at once is an error.
    pub fn wait(&mut self, deadline: Instant, enough: impl Fn(&World) -> bool) -> Result<Waited> {
        loop {
            self.check()?;
            if enough(self.world) {
                return Ok(Waited::Yes);
            }
            if let Some(status) = self.ended {
                return Ok(Waited::Ended(status));
            }
            if Instant::now() >= deadline {
                return Ok(Waited::TimedOut);
            }
            self.take_in(deadline)?;
        }
    }

    fn take_in(&mut self, deadline: Instant) -> Result<()> {
        match self.emulator.next(deadline)? {
            Happened::Bytes(bytes) => {
                let before: Vec<State> = self.world.vms.iter().map(|vm| vm.state.clone()).collect();
                self.world.feed(&bytes);
                self.heard = Instant::now();
                for (vm, (now, was)) in self.world.vms.iter().zip(before).enumerate() {
                    // A VM that was started anew has a new shell.
                    if now.state == State::Runs
                        && was != State::Runs
                        && let Some(since) = self.since.get_mut(vm)
                    {
                        *since = self.heard;
                    }
                }
            }
            Happened::Silence => {}
            Happened::Ended(status) => {
                self.ended = Some(status);
                self.world.finish();
            }
        }
        Ok(())
    }

    /// Fails if Trivet or a guest has.
    fn check(&mut self) -> Result<()> {
        let bad =
            |world: &World| world.panicked.is_some() || world.refused.is_some() || panicked_guest(world).is_some();
        if !bad(self.world) {
            return Ok(());
        }
        let deadline = Instant::now() + AFTERMATH;
        while self.ended.is_none() && Instant::now() < deadline {
            self.take_in(deadline)?;
        }
        if let Some(what) = &self.world.panicked {
            bail!("Trivet panicked: {what}");
        }
        if let Some(why) = &self.world.refused {
            bail!("Trivet refused to start: {why}");
        }
        match panicked_guest(self.world) {
            Some((name, words)) => bail!("guest kernel panic in {name}: {words}"),
            None => Ok(()),
        }
    }

    /// How a VM is doing; `None` if there is no such VM.
    pub fn state(&self, vm: usize) -> Option<State> {
        self.world.vms.get(vm).map(|vm| vm.state.clone())
    }

    /// A VM's name.
    pub fn name(&self, vm: usize) -> String {
        self.world.vms.get(vm).map(|vm| vm.name.clone()).unwrap_or_default()
    }

    /// Types into a VM's console.
    pub fn type_to(&mut self, vm: usize, text: &str) {
        let Ok(number) = u8::try_from(vm) else { return };
        for frame in frames(Stream::Console(number), text.as_bytes()) {
            self.emulator.send(frame.as_bytes());
        }
    }
}

fn panicked_guest(world: &World) -> Option<(&str, &str)> {
    world.vms.iter().find_map(|vm| match &vm.state {
        State::Ended(End::Panic(words)) => Some((vm.name.as_str(), words.as_str())),
        _ => None,
    })
}
