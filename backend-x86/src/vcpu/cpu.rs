//! One virtual CPU: its state, and its way onto a CPU, into the guest and off again.
//!
//! State is in four places. General registers are in [`X86Vcpu::general`] whenever Trivet runs. What the vendor's control
//! structure holds is behind [`Hardware`]. Floating point and what else both vendors leave to Trivet is on the CPU from `load`
//! to `put` ([`Extras`]): Trivet itself does not use it. The local APIC's own side is in [`Local`].
//!
//! An entry has nothing to do but to compare two words as long as nobody wants the vCPU's attention. What does want it is
//! attended to before the entry (`turn`).

use hv_core::epoch::Cpu;
use hv_core::isa::{Vcpu, VmTag};
use hv_core::machine::{Instant, Machine as _};
use hv_core::mmu::GuestMemory;
use hv_core::vcpu::exit::{Completion, Exit, Fault, Next};
use hv_core::vcpu::services::{Services, StartAt};

use super::extras::{Extras, TscAux};
use super::hardware::{General, Hardware, WorldSwitch as _};
use super::lengths::Lengths;
use crate::apic::Local;
use crate::event::Event;
use crate::exit::{Call, Cause};
use crate::guest::pc::Pc;
use crate::isa::X86;
use crate::machine::X86Machine;
use crate::stage2::Processor as _;
use crate::start::Start;

bitflags::bitflags! {
    /// What has to be done before the guest is entered.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Attention: u8 {
        /// What can be delivered is to be found out.
        const LOOK = 1 << 0;
        /// The deadline is to be set: what it was set to may not be what it is set to, or the guest's timer has changed.
        const DEADLINE = 1 << 1;
        /// A physical interrupt ended the run when the deadline had passed.
        const EXPIRED = 1 << 2;
        /// The guest has executed HLT.
        const HALTED = 1 << 3;
        /// The guest accessed memory that it does not have.
        const ABSENT = 1 << 4;
        /// It was reset to run from where it is: its local APIC waits for no start-up.
        const BEGUN = 1 << 5;
    }
}

/// A virtual CPU.
#[derive(Debug)]
pub struct X86Vcpu {
    pub(super) general: General,
    pub(super) attention: Attention,
    /// The loop's deadline when `armed` was set.
    pub(super) until: Instant,
    /// When the run is to end: then, or when the guest's own timer is due.
    pub(super) armed: Instant,
    pub(super) hardware: Hardware,
    pub(super) local: Local,
    pub(super) tag: VmTag,
    /// An NMI waits to be delivered.
    pub(super) nmi: bool,
    pub(super) absent: Call,
    /// What is added to the machine's time to get the guest's time-stamp counter.
    pub(super) tsc_offset: u64,
    pub(super) address_bits: u8,
    ticks_per_second: u64,
    pub(super) lengths: Lengths,
    pub(super) extras: Extras,
}

impl X86Vcpu {
    /// The registers of a reset; the local APIC is as it is.
    pub(super) fn begin(&mut self, at: &StartAt) {
        let start = Start::of(at);
        self.general = start.registers.general;
        self.hardware.reset(&start);
        self.hardware.set_tsc_offset(self.tsc_offset);
        self.extras.reset();
        self.nmi = false;
        self.lengths = Lengths::NONE;
        self.attention = Attention::LOOK | Attention::DEADLINE;
    }
}

impl Vcpu<X86> for X86Vcpu {
    type Raw = Cause;

    #[inline(never)] // for size: what makes a VM has a frame of pages as it is
    fn create(m: &X86Machine, tag: VmTag, index: u16) -> Option<Self> {
        Some(Self {
            general: [0; 16],
            attention: Attention::empty(),
            until: Instant::NEVER,
            armed: Instant::NEVER,
            hardware: Hardware::create(m)?,
            local: Local::new(index, m.ticks_per_second()),
            tag,
            nmi: false,
            absent: Call::Held,
            tsc_offset: 0,
            address_bits: m.features().address_bits,
            ticks_per_second: m.ticks_per_second(),
            lengths: Lengths::NONE,
            extras: Extras::new(TscAux::find()),
        })
    }

    fn reset(&mut self, at: StartAt) {
        self.local = Local::new(self.local.number(), self.ticks_per_second);
        self.begin(&at);
        self.attention |= Attention::BEGUN;
    }

    fn load(&mut self, cpu: &Cpu, m: &X86Machine) {
        self.hardware.load(cpu, m);
        self.extras.load();
        self.attention.remove(Attention::EXPIRED);
        self.attention |= Attention::LOOK | Attention::DEADLINE;
    }

    fn put(&mut self, cpu: &Cpu, m: &X86Machine) {
        self.extras.save();
        self.hardware.put(cpu, m);
    }

    #[inline]
    fn enter(&mut self, cpu: &Cpu, m: &X86Machine, memory: &GuestMemory<X86>, p: &Pc, until: Instant) -> Cause {
        if (!self.attention.is_empty() || self.until != until || self.local.wants_look(p.apics()))
            && let Some(cause) = self.attend(cpu, m, p, until)
        {
            return cause;
        }
        let cause = self.hardware.run(&mut self.general, cpu, m, self.tag, memory.stage2());
        match self.hardware.interrupted() {
            None => {}
            // A more urgent one may have come by the next run, or the guest may not take it then.
            Some(Event::Interrupt(vector)) => self.local.put_back(p.apics(), vector),
            Some(event) => self.hardware.inject(event),
        }
        self.hardware.take_priority(&mut self.local);
        match cause {
            Cause::Interrupt => self.interrupted(m),
            // It may have been the guest's own timer's.
            Cause::Deadline => self.attention |= Attention::DEADLINE,
            Cause::Fault(..) | Cause::Call(_) | Cause::Broken(_) => {}
        }
        cause
    }

    #[inline]
    fn classify(&self, cause: &Cause) -> Exit<X86> {
        match *cause {
            Cause::Call(call) => Exit::Call(call),
            Cause::Fault(gpa, access) => Exit::Fault(Fault { gpa, access, claim: () }),
            Cause::Interrupt => Exit::Interrupt,
            Cause::Deadline => Exit::Deadline,
            Cause::Broken(why) => Exit::Broken(why),
        }
    }

    #[inline]
    fn call<S: Services>(&mut self, call: Call, p: &Pc, s: &S) -> Next {
        self.carry_out(call, p, s)
    }

    fn complete(&mut self, done: Completion) {
        match done {
            Completion::Again => {}
            // A PC's bus answers with ones, and takes what is written: the instruction is carried out like that.
            Completion::BadAddress(gpa, access) => {
                self.absent = Call::Mmio(gpa, access);
                self.attention |= Attention::ABSENT;
            }
        }
    }

    fn timer(&self) -> Option<Instant> {
        self.local.due()
    }

    fn pending(&self, p: &Pc) -> bool {
        self.wakes(p)
    }
}
