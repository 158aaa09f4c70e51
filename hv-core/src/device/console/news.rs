//! What happens to VMs, told to the person at the terminal and to xtask.

use super::Consoles;
use crate::guest::lifecycle::how_ended;
use crate::link::{Event, Outcome, VmEnd};
use crate::machine::Verdict;
use crate::vcpu::exit::End;

impl Consoles {
    /// A VM runs.
    pub fn started(&self, vm: usize) {
        if let Ok(number) = u8::try_from(vm) {
            self.event(&Event::VmStarted(number));
        }
    }

    /// A VM has ended; `last_words` are the guest's own about its failure, if it had any.
    pub fn ended(&self, vm: usize, how: End, last_words: &str) {
        let mut desk = self.desk.lock();
        let words = Event::fit(last_words);
        let told = match how {
            End::PowerOff => VmEnd::PowerOff,
            End::Reboot => VmEnd::Reboot,
            End::GuestPanic => VmEnd::GuestPanic(words),
            End::Stopped => VmEnd::Stopped,
            End::OutOfMemory => VmEnd::OutOfMemory,
            End::Broken(what) => VmEnd::Broken(Event::fit(what)),
        };
        if let Ok(number) = u8::try_from(vm) {
            desk.event(&Event::VmEnded(number, told));
        }
        let name = desk.name(vm);
        let colon = if words.is_empty() { "" } else { ": " };
        desk.notice(format_args!("VM {name} has ended: {}{colon}{words}", how_ended(how)));
    }

    /// Something about one VM that the operator should know.
    pub fn notice(&self, vm: usize, text: &str) {
        let mut desk = self.desk.lock();
        let name = desk.name(vm);
        desk.notice(format_args!("VM {name}: {text}"));
    }

    /// Every VM has ended and the machine stays on, for an operator who may want to start one again.
    pub fn idle(&self) {
        self.say(format_args!("every VM has ended; Ctrl-A m is the monitor, Ctrl-A x switches the machine off"));
    }

    /// The machine is switched off next.
    pub fn powering_off(&self, verdict: Verdict) {
        self.event(&Event::PoweringOff(match verdict {
            Verdict::Success => Outcome::Success,
            Verdict::Failure => Outcome::Failure,
        }));
    }
}
