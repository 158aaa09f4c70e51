//! The life of a VM as a pure state machine, and what the machine does when all of its VMs have ended.
//!
//! ```text
//! Configured --start--> Running --end(how)--> Ending(how) --drained--> Ended(how) --start--> Running
//!                          ^                       |
//!                          +--- start (again) <----+ drained, if how is Reboot, or OutOfMemory and its policy says so:
//!                                                     back to Configured
//! ```
//!
//! `Ending` is a state of its own because ending takes time: a vCPU of the VM may be in its guest on another CPU, and
//! nothing of the VM may be freed before every one of them has left (R20). Who calls [`Life::end`] first decides how
//! the VM ended; what others say later is the echo of it.
//!
//! Nothing here locks or calls out: the runtime keeps each [`Life`] under a lock of its own and does what the
//! returned value says after it let go of it.

use core::borrow::Borrow;

use crate::guest::manifest::OutOfMemory;
use crate::machine::Verdict;
use crate::vcpu::exit::End;

/// Where a VM is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Described by the manifest, owns nothing yet. Also between the two halves of a reboot.
    Configured,
    /// Has memory and vCPUs.
    Running,
    /// Has been told to end; vCPUs may still be on their way out of the guest.
    Ending(End),
    /// Owns nothing any more.
    Ended(End),
}

/// Why something was not done to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// To start: it is running already.
    Running,
    /// To start: it is ending, try again in a moment.
    Ending,
    /// To stop: it has never been started.
    NotStarted,
    /// To stop: it has ended already.
    Ended,
    /// There is no such VM.
    NoSuchVm,
    /// To do something to its memory: it has none.
    NotRunning,
    /// To swap: its manifest says no.
    NoSwap,
    /// To harvest: its dirty log is off.
    NotLogging,
    /// To log: there is no memory for the log.
    NoMemory,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Running => "it is running already",
            Self::Ending => "it is still ending; try again in a moment",
            Self::NotStarted => "it has not been started",
            Self::Ended => "it has ended already",
            Self::NoSuchVm => "there is no such VM",
            Self::NotRunning => "it is not running",
            Self::NoSwap => "its manifest says swap = false",
            Self::NotLogging => "its dirty log is off",
            Self::NoMemory => "there is no memory for its log",
        })
    }
}

/// What the caller of [`Life::end`] has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndStep {
    /// This call ended the VM: make its vCPUs leave the guest, then call [`Life::drained`].
    Drain,
    /// It was ending or over before; nothing is to be done.
    AlreadyEnding,
}

/// What the caller of [`Life::drained`] has to do once it has freed what the VM owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Call [`Life::start`] and build the VM anew: the guest asked for a reboot, or its policy does.
    StartAgain(End),
    /// The VM is over; ask [`fleet`] whether the machine is.
    Over(End),
    /// No end was pending: `drained` was called without [`EndStep::Drain`].
    NotEnding,
}

/// The life of one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    state: State,
    restarts: u32,
    failed: bool,
    policy: OutOfMemory,
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}

impl Life {
    /// A VM that has been described and not been started.
    #[must_use]
    pub const fn new() -> Self {
        Self::with(OutOfMemory::Stop)
    }

    /// The same, with its policy for when memory runs out.
    #[must_use]
    pub const fn with(policy: OutOfMemory) -> Self {
        Self { state: State::Configured, restarts: 0, failed: false, policy }
    }

    /// Whether a VM that ends so is started again without being asked.
    fn comes_back(&self, how: End) -> bool {
        how == End::Reboot || (how == End::OutOfMemory && self.policy == OutOfMemory::Restart)
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// How often it has been started again, by reboot or by the operator.
    #[must_use]
    pub const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// True if it has ever ended badly. Being started again does not wipe that out: the run as a whole has failed.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether [`Life::start`] would do it now.
    pub const fn may_start(&self) -> Result<(), Refused> {
        match self.state {
            State::Running => Err(Refused::Running),
            State::Ending(_) => Err(Refused::Ending),
            State::Configured | State::Ended(_) => Ok(()),
        }
    }

    /// The VM is to run: `Ok` means that the caller now builds it. If that fails it calls [`Life::end`] with the reason
    /// and then, for [`Life::drained`], [`Life::not_built`].
    pub fn start(&mut self) -> Result<(), Refused> {
        self.may_start()?;
        if matches!(self.state, State::Ended(_)) {
            self.restarts = self.restarts.saturating_add(1);
        }
        self.state = State::Running;
        Ok(())
    }

    /// The VM is to end. Called for whatever ends it: a vCPU's exit, the operator, lack of memory.
    pub fn end(&mut self, how: End) -> EndStep {
        match self.state {
            State::Running => {
                self.state = State::Ending(how);
                self.failed |= is_failure(how);
                EndStep::Drain
            }
            // A guest that comes back over and over must still be stoppable, whenever the operator's word arrives.
            State::Ending(before) if how == End::Stopped && self.comes_back(before) => {
                self.state = State::Ending(how);
                EndStep::AlreadyEnding
            }
            State::Configured | State::Ending(_) | State::Ended(_) => EndStep::AlreadyEnding,
        }
    }

    /// The operator wants it stopped.
    pub fn stop(&mut self) -> Result<EndStep, Refused> {
        match self.state {
            State::Configured => Err(Refused::NotStarted),
            State::Ended(_) => Err(Refused::Ended),
            State::Running | State::Ending(_) => Ok(self.end(End::Stopped)),
        }
    }

    /// No vCPU of the VM is in its guest nor will enter it again, and what it owned has been freed.
    pub fn drained(&mut self) -> After {
        match self.state {
            State::Ending(how) if self.comes_back(how) => {
                self.state = State::Configured;
                self.restarts = self.restarts.saturating_add(1);
                After::StartAgain(how)
            }
            State::Ending(how) => {
                self.state = State::Ended(how);
                After::Over(how)
            }
            State::Configured | State::Running | State::Ended(_) => After::NotEnding,
        }
    }

    /// [`Life::drained`] for a VM that could not even be built. It is not started again by itself, whatever its policy: it
    /// would fail the same way, for ever.
    pub fn not_built(&mut self) -> After {
        let State::Ending(how) = self.state else { return After::NotEnding };
        self.state = State::Ended(how);
        After::Over(how)
    }
}

/// True if a VM that ended like this has failed, so that the run as a whole has.
#[must_use]
pub const fn is_failure(how: End) -> bool {
    match how {
        End::PowerOff | End::Reboot | End::Stopped => false,
        End::GuestPanic | End::OutOfMemory | End::Broken(_) => true,
    }
}

/// An end in the operator's words.
#[must_use]
pub const fn how_ended(how: End) -> &'static str {
    match how {
        End::PowerOff => "switched itself off",
        End::Reboot => "restarts",
        End::GuestPanic => "its operating system failed",
        End::Stopped => "stopped by the operator",
        End::OutOfMemory => "out of memory: it used most when nothing could be freed",
        End::Broken(what) => what,
    }
}

/// What the machine does, given the lives of all its VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fleet {
    /// Some VM lives, or will: carry on.
    Alive,
    /// All have ended, one of them because the operator stopped it. An operator who sits at the monitor may want to
    /// start it again; where nobody does, this is the same as [`Fleet::Over`].
    Idle(Verdict),
    /// All have ended by themselves: power off.
    Over(Verdict),
}

/// Looks at all VMs together. A machine without VMs is over, and that is a failure: it was asked to run nothing.
pub fn fleet(lives: impl IntoIterator<Item: Borrow<Life>>) -> Fleet {
    let (mut any, mut failed, mut stopped) = (false, false, false);
    for life in lives {
        let life = life.borrow();
        any = true;
        failed |= life.failed;
        match life.state {
            State::Ended(how) => stopped |= how == End::Stopped,
            State::Configured | State::Running | State::Ending(_) => return Fleet::Alive,
        }
    }
    let verdict = if any && !failed { Verdict::Success } else { Verdict::Failure };
    if stopped { Fleet::Idle(verdict) } else { Fleet::Over(verdict) }
}

/// The verdict if the operator switches the machine off now: bad if any VM has failed so far.
pub fn verdict_now(lives: impl IntoIterator<Item: Borrow<Life>>) -> Verdict {
    if lives.into_iter().any(|life| life.borrow().has_failed()) { Verdict::Failure } else { Verdict::Success }
}

#[cfg(test)]
mod tests {
    use super::{After, EndStep, Fleet, Life, Refused, State, fleet, verdict_now};
    use crate::guest::manifest::OutOfMemory;
    use crate::machine::Verdict;
    use crate::vcpu::exit::End;

    fn ended(how: End) -> Life {
        let mut life = Life::new();
        assert_eq!(life.start(), Ok(()));
        assert_eq!(life.end(how), EndStep::Drain);
        assert_eq!(life.drained(), After::Over(how));
        life
    }

    /// R20: nothing is freed twice, so exactly one caller of `end` is told to drain.
    #[test]
    fn the_first_end_wins() {
        let mut life = Life::new();
        assert_eq!(life.end(End::PowerOff), EndStep::AlreadyEnding, "it never ran");
        assert_eq!(life.start(), Ok(()));
        assert_eq!(life.end(End::GuestPanic), EndStep::Drain);
        assert_eq!(life.end(End::PowerOff), EndStep::AlreadyEnding);
        assert_eq!(life.end(End::Stopped), EndStep::AlreadyEnding);
        assert_eq!(life.state(), State::Ending(End::GuestPanic));
        assert_eq!(life.drained(), After::Over(End::GuestPanic));
        assert_eq!(life.drained(), After::NotEnding);
    }

    #[test]
    fn a_reboot_starts_anew_and_is_counted() {
        let mut life = Life::new();
        assert_eq!(life.start(), Ok(()));
        assert_eq!(life.end(End::Reboot), EndStep::Drain);
        assert_eq!(life.start(), Err(Refused::Ending));
        assert_eq!(life.drained(), After::StartAgain(End::Reboot));
        assert_eq!(fleet([&life]), Fleet::Alive, "a rebooting VM is not over");
        assert_eq!(life.start(), Ok(()));
        assert_eq!((life.state(), life.restarts()), (State::Running, 1));
    }

    #[test]
    fn the_operator_can_stop_a_vm_that_reboots_for_ever() {
        let mut life = Life::new();
        assert_eq!(life.start(), Ok(()));
        assert_eq!(life.end(End::Reboot), EndStep::Drain);
        assert_eq!(life.stop(), Ok(EndStep::AlreadyEnding));
        assert_eq!(life.drained(), After::Over(End::Stopped));
    }

    #[test]
    fn memory_that_runs_out_restarts_a_vm_if_its_policy_says_so_and_fails_the_run() {
        let mut life = Life::with(OutOfMemory::Restart);
        assert_eq!(life.start(), Ok(()));
        assert_eq!(life.end(End::OutOfMemory), EndStep::Drain);
        assert_eq!(life.drained(), After::StartAgain(End::OutOfMemory));
        assert_eq!((life.start(), life.restarts(), life.has_failed()), (Ok(()), 1, true));
        assert_eq!(life.end(End::OutOfMemory), EndStep::Drain);
        assert_eq!(life.stop(), Ok(EndStep::AlreadyEnding), "or nothing stops it from coming back");
        assert_eq!(life.drained(), After::Over(End::Stopped));
        assert_eq!(ended(End::OutOfMemory).state(), State::Ended(End::OutOfMemory), "by default it stays down");
    }

    #[test]
    fn what_cannot_be_built_is_not_tried_for_ever() {
        let mut life = Life::with(OutOfMemory::Restart);
        assert_eq!(life.start(), Ok(()));
        assert_eq!(life.end(End::OutOfMemory), EndStep::Drain);
        assert_eq!(life.not_built(), After::Over(End::OutOfMemory));
        assert_eq!((life.has_failed(), life.start()), (true, Ok(())), "the operator may");
        assert_eq!(life.stop(), Ok(EndStep::Drain));
        assert_eq!(life.end(End::OutOfMemory), EndStep::AlreadyEnding);
        assert_eq!(life.not_built(), After::Over(End::Stopped), "who said it first decides");
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let mut life = Life::new();
        assert_eq!(life.stop(), Err(Refused::NotStarted));
        assert_eq!(life.start(), Ok(()));
        assert_eq!(life.start(), Err(Refused::Running));
        assert_eq!(life.stop(), Ok(EndStep::Drain));
        assert_eq!(life.drained(), After::Over(End::Stopped));
        assert_eq!(life.stop(), Err(Refused::Ended));
        assert_eq!(life.start(), Ok(()));
        assert_eq!(life.restarts(), 1);
    }

    #[test]
    fn the_machine_is_over_when_every_vm_is_and_the_worst_end_decides() {
        let (good, bad) = (ended(End::PowerOff), ended(End::GuestPanic));
        let mut running = Life::new();
        assert_eq!(fleet([&good, &running]), Fleet::Alive, "not started yet");
        assert_eq!(running.start(), Ok(()));
        assert_eq!(fleet([&bad, &running]), Fleet::Alive);
        assert_eq!(running.end(End::PowerOff), EndStep::Drain);
        assert_eq!(fleet([&good, &running]), Fleet::Alive, "not before it has drained");
        assert_eq!(fleet([&good, &good]), Fleet::Over(Verdict::Success));
        assert_eq!(fleet([&good, &bad]), Fleet::Over(Verdict::Failure));
        assert_eq!(fleet([&ended(End::OutOfMemory)]), Fleet::Over(Verdict::Failure));
        assert_eq!(fleet([&ended(End::Broken("x"))]), Fleet::Over(Verdict::Failure));
        assert_eq!(fleet([&good, &ended(End::Stopped)]), Fleet::Idle(Verdict::Success));
        assert_eq!(fleet([&bad, &ended(End::Stopped)]), Fleet::Idle(Verdict::Failure));
        assert_eq!(fleet([] as [Life; 0]), Fleet::Over(Verdict::Failure), "nothing ran");
    }

    #[test]
    fn a_failure_is_remembered_through_a_restart() {
        let mut life = ended(End::GuestPanic);
        assert_eq!(life.start(), Ok(()));
        assert_eq!(verdict_now([&life]), Verdict::Failure);
        assert_eq!(life.end(End::PowerOff), EndStep::Drain);
        assert_eq!(life.drained(), After::Over(End::PowerOff));
        assert_eq!(fleet([&life]), Fleet::Over(Verdict::Failure));
        assert_eq!(verdict_now([&ended(End::Stopped)]), Verdict::Success);
    }
}
