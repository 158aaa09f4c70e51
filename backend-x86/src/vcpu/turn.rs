//! What happens to a vCPU between its entries, on the CPU that holds it: its timer, INIT and start-up messages, what is delivered
//! to it, and physical interrupts.

use hv_core::addr::Gpa;
use hv_core::epoch::Cpu;
use hv_core::machine::{Instant, Machine as _};
use hv_core::vcpu::services::StartAt;

use super::cpu::{Attention, X86Vcpu};
use super::hardware::{Windows, WorldSwitch as _};
use crate::apic::Event as Message;
use crate::event::Event;
use crate::exit::{Call, Cause};
use crate::guest::pc::Pc;
use crate::machine::X86Machine;

/// RFLAGS.IF.
const FLAGS_IF: u64 = 1 << 9;

impl X86Vcpu {
    /// Does what stands between the vCPU and its guest. `Some` in place of a run.
    #[inline]
    pub(super) fn attend(&mut self, cpu: &Cpu, m: &X86Machine, p: &Pc, until: Instant) -> Option<Cause> {
        let timely = Attention::DEADLINE | Attention::EXPIRED | Attention::ABSENT | Attention::BEGUN;
        if (self.attention.intersects(timely) || self.until != until)
            && let Some(cause) = self.expired(m, p, until)
        {
            return Some(cause);
        }
        if self.local.wants_look(p.apics()) {
            if let Some(message) = self.local.look(p.apics())
                && let Some(cause) = self.restarted(cpu, m, message)
            {
                return Some(cause);
            }
            self.nmi |= self.local.take_nmi(p.apics());
            self.hardware.show_priority(self.local.tpr());
        }
        if self.local.is_held(p.apics()) {
            return Some(Cause::Call(Call::Held));
        }
        if self.attention.contains(Attention::HALTED) {
            if !self.wakes(p) {
                return Some(Cause::Call(Call::Held));
            }
            self.attention.remove(Attention::HALTED);
        }
        self.deliver(p);
        self.attention.remove(Attention::LOOK);
        if self.attention.contains(Attention::DEADLINE) {
            self.attention.remove(Attention::DEADLINE);
            self.until = until;
            self.armed = self.local.due().map_or(until, |due| due.min(until));
            self.hardware.set_deadline(cpu, m, self.armed);
        }
        None
    }

    /// Has the next run begin with what is most urgent, and end as soon as the guest can take what is left.
    #[inline]
    fn deliver(&mut self, p: &Pc) {
        let mut windows = Windows::empty();
        let mut awaited = None;
        if self.nmi {
            if self.hardware.can_take_nmi() && !self.hardware.is_injecting() {
                self.nmi = false;
                self.hardware.inject(Event::Nmi);
            } else {
                windows |= Windows::NMI;
            }
        }
        if self.local.offered().is_some() {
            if !self.hardware.can_take_interrupt() || self.hardware.is_injecting() {
                windows |= Windows::INTERRUPT;
            } else if let Some(vector) = self.local.acknowledge(p.apics()) {
                self.hardware.inject(Event::Interrupt(vector));
            }
        } else {
            awaited = self.local.held_back(p.apics());
        }
        self.hardware.await_priority(awaited);
        self.hardware.set_windows(windows);
    }

    /// The loop's deadline or the guest's timer may have passed, or the guest asks for something once more.
    #[inline(never)]
    fn expired(&mut self, m: &X86Machine, p: &Pc, until: Instant) -> Option<Cause> {
        if self.attention.contains(Attention::BEGUN) {
            self.attention.remove(Attention::BEGUN);
            self.local.begun(p.apics());
        }
        if self.attention.contains(Attention::ABSENT) {
            self.attention.remove(Attention::ABSENT);
            return Some(Cause::Call(self.absent));
        }
        self.attention |= Attention::DEADLINE;
        let now = m.now();
        if self.attention.contains(Attention::EXPIRED) {
            self.attention.remove(Attention::EXPIRED);
            if now >= until {
                return Some(Cause::Deadline);
            }
        }
        self.local.tick(p.apics(), now);
        None
    }

    /// INIT or a start-up message has come; the local APIC has been reset by it.
    #[cold]
    #[inline(never)]
    fn restarted(&mut self, cpu: &Cpu, m: &X86Machine, message: Message) -> Option<Cause> {
        let page = match message {
            // There is no firmware to go to.
            Message::Restart => return Some(Cause::Call(Call::TripleFault)),
            Message::Init => 0,
            Message::Start(page) => page,
        };
        self.extras.save();
        self.hardware.put(cpu, m);
        self.begin(&StartAt { entry: Gpa(u64::from(page) << 12), args: [0; 4], big_endian: false });
        self.hardware.load(cpu, m);
        self.extras.load();
        None
    }

    /// A physical interrupt has ended the run; the loop takes it.
    #[inline]
    pub(super) fn interrupted(&mut self, m: &X86Machine) {
        // Whoever takes it may take the timer's.
        self.attention |= Attention::DEADLINE;
        if m.now() >= self.armed {
            self.attention |= Attention::EXPIRED;
        }
    }

    /// True if there is something that a halted vCPU runs for.
    pub(super) fn wakes(&self, p: &Pc) -> bool {
        let interrupt = self.hardware.rflags() & FLAGS_IF != 0 && self.local.interrupt_waits(p.apics());
        self.nmi || self.local.event_waits(p.apics()) || interrupt
    }
}
