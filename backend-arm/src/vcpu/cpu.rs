//! One virtual CPU: its state, and its way onto a CPU, into the guest and off again.
//!
//! State is in three places. General registers, program counter and processor state are in [`Context`] whenever Trivet runs. The
//! registers of EL1 and EL0, the timers and the virtual CPU interface stay on the CPU from `load` to `put`. Floating-point and
//! debug registers come to the CPU at their first use in between.
//!
//! An entry has nothing to do but to compare two words as long as nobody wants the vCPU's attention. What does want it (an
//! interrupt that another vCPU sent, a timer that fired, list registers that ran empty) is listed on the way in (`turn`). Only
//! where that leaves something for other vCPUs does `enter` return at once, with [`Raw::GUEST`]: `call` may wake them, and the
//! guest is entered again.
//!
//! Order on real hardware: what is written to system registers here holds for the guest because the exception return that
//! enters it synchronizes (DDI 0487, D1.4; SCTLR_EL2.EOS is 1 or not there); an ISB stands only where EL2 itself depends on a
//! write. The second stage is taken off with the vCPU: from then on EL1's registers and VTTBR_EL2 change one by one, and
//! although out of context translations may not be used speculatively (D8.2), processors with errata do so on behalf of AT
//! instructions; with the empty root in VTTBR_EL2 they find nothing.
#![expect(unsafe_code, reason = "enters guests")]

use aarch64_cpu::registers::{
    CNTHCTL_EL2, HCR_EL2, HDFGRTR_EL2, HDFGWTR_EL2, HFGITR_EL2, HFGRTR_EL2, HFGWTR_EL2, ID_AA64DFR0_EL1,
    ID_AA64ISAR1_EL1, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64PFR0_EL1, ID_AA64PFR1_EL1, MIDR_EL1, Readable as _,
    VMPIDR_EL2, Writeable as _,
};
use hv_core::epoch::Cpu;
use hv_core::isa::{Vcpu, VmTag};
use hv_core::machine::Instant;
use hv_core::mmu::GuestMemory;
use hv_core::vcpu::exit::{Completion, Exit, Fault, Next};
use hv_core::vcpu::services::{Services, StartAt};

use super::el1::{El1, Keys};
use super::enter::Context;
use super::exits::{self, Cause, Raw, ec};
use super::guards::{self, Debug, Extras, Float, Ids};
use super::lists::{self, Interface};
use super::psr::{Place, bits};
use super::registers::{HCRX_EL2, HSTR_EL2, ID_AA64ISAR2_EL1, MPAM2_EL2, VPIDR_EL2};
use super::timer::{self, Timers};
use super::turn::aborted;
use super::{debug, fp};
use crate::isa::Arm64;
use crate::machine::{ArmMachine, clock};
use crate::vgic::Lists;
use crate::virt::{Virt, layout};

/// What has to be done before the guest is entered.
pub mod attention {
    /// Interrupts are to be looked at.
    pub const LOOK: u8 = 1;
    /// The second stage is to be loaded.
    pub const STAGE2: u8 = 2;
    /// EL2's timer is to be set: what it was set to may not be what it is set to.
    pub const DEADLINE: u8 = 4;
}

/// A virtual CPU.
pub struct ArmVcpu {
    pub(super) context: Context,
    /// Of [`attention`].
    pub(super) attention: u8,
    /// What EL2's timer is set to.
    pub(super) until: Instant,
    pub(super) index: u16,
    loaded: Loaded,
    pub(super) lists: Lists,
    timers: Timers,
    interface: Interface,
    el1: El1,
    keys: Keys,
    pub(super) float: (Float, fp::Registers),
    pub(super) debug: (Debug, debug::Registers),
    pub(super) extras: Extras,
}

/// Where the state is that exits leave loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    /// On the CPU.
    OnCpu,
    /// In memory.
    Saved,
}

impl Vcpu<Arm64> for ArmVcpu {
    type Raw = Raw;

    fn create(_: &ArmMachine, _: VmTag, index: u16) -> Option<Self> {
        let extras = Extras::of(&Ids {
            pfr0: ID_AA64PFR0_EL1.get(),
            pfr1: ID_AA64PFR1_EL1.get(),
            dfr0: ID_AA64DFR0_EL1.get(),
            isar1: ID_AA64ISAR1_EL1.get(),
            isar2: ID_AA64ISAR2_EL1.get(),
            mmfr0: ID_AA64MMFR0_EL1.get(),
            mmfr1: ID_AA64MMFR1_EL1.get(),
        });
        Some(Self {
            context: Context::new(Place { pc: 0, pstate: 0 }),
            attention: 0,
            until: Instant::NEVER,
            index,
            loaded: Loaded::Saved,
            lists: Lists::new(lists::how_many()),
            timers: Timers::default(),
            interface: Interface::default(),
            el1: El1::RESET,
            keys: Keys::default(),
            float: (Float::Trapped, fp::Registers::RESET),
            debug: (Debug::Trapped, debug::Registers::RESET),
            extras,
        })
    }

    fn reset(&mut self, at: StartAt) {
        self.context = Context::new(Place { pc: at.entry.0, pstate: bits::EL1H | bits::DAIF });
        *self.context.arguments() = at.args;
        self.lists = Lists::new(self.lists.limit);
        self.timers = Timers::default();
        self.interface = Interface::default();
        self.el1 = El1::RESET;
        self.keys = Keys::default();
        self.float = (Float::Trapped, fp::Registers::RESET);
        self.debug = (Debug::Trapped, debug::Registers::RESET);
        self.loaded = Loaded::Saved;
    }

    fn load(&mut self, _: &Cpu, _: &ArmMachine) {
        self.float.0 = Float::Trapped;
        self.debug.0 = Debug::Trapped;
        HCR_EL2.set(self.extras.hcr());
        HSTR_EL2.set(guards::HSTR);
        if self.extras.hcx {
            HCRX_EL2.set(guards::HCRX);
        }
        if self.extras.fgt {
            HFGRTR_EL2.set(guards::FINE_GRAINED);
            HFGWTR_EL2.set(guards::FINE_GRAINED);
            HFGITR_EL2.set(guards::FINE_GRAINED);
            HDFGRTR_EL2.set(guards::FINE_GRAINED);
            HDFGWTR_EL2.set(guards::FINE_GRAINED);
        }
        if self.extras.mpam {
            MPAM2_EL2.set(guards::MPAM2);
        }
        CNTHCTL_EL2.set(guards::CNTHCTL);
        VPIDR_EL2.set(MIDR_EL1.get());
        VMPIDR_EL2.set(layout::mpidr(self.index));
        self.guard();
        self.el1.load();
        if self.extras.pauth {
            self.keys.load();
        }
        if self.debug.1.is_effective() {
            self.lend_debug();
        }
        self.timers.load();
        self.interface.load();
        self.attention = attention::STAGE2 | attention::LOOK | attention::DEADLINE;
        self.loaded = Loaded::OnCpu;
    }

    fn put(&mut self, _: &Cpu, m: &ArmMachine) {
        m.leave_guest();
        // Lines fall first, so that what is deactivated next stays so.
        self.timers.save();
        self.interface.save(&mut self.lists);
        self.release_physical();
        self.el1.save();
        if self.extras.pauth {
            self.keys.save();
        }
        if self.float.0 == Float::Lent {
            self.float.1.save();
        }
        if self.debug.0 == Debug::Lent {
            self.debug.1.save(&self.extras);
        }
        self.loaded = Loaded::Saved;
    }

    #[inline]
    fn enter(&mut self, _: &Cpu, _: &ArmMachine, memory: &GuestMemory<Arm64>, p: &Virt, until: Instant) -> Raw {
        if (self.attention != 0 || p.gic().wants_look(self.index)) && self.attend(memory.stage2(), p, until) {
            return Raw::GUEST;
        }
        if self.until != until {
            self.set_deadline(until);
        }
        // SAFETY: the vCPU is loaded, and its second stage (`attend`); the vectors are the board's business, interrupts and
        // SErrors are masked at EL2 always.
        let esr = unsafe { self.context.enter() };
        match exits::class(esr) {
            ec::HVC => Raw::of(esr),
            ec::FETCH | ec::DATA => aborted(esr),
            ec::INTERRUPT => self.interrupted(),
            _ => Raw::of(esr),
        }
    }

    #[inline]
    fn classify(&self, raw: &Raw) -> Exit<Arm64> {
        match exits::name(raw) {
            Cause::Fault(gpa, access) => Exit::Fault(Fault { gpa, access, claim: () }),
            Cause::Call => Exit::Call(*raw),
            Cause::Interrupt => Exit::Interrupt,
            Cause::Deadline => Exit::Deadline,
            Cause::Broken(why) => Exit::Broken(why),
        }
    }

    #[inline]
    fn call<S: Services>(&mut self, raw: Raw, p: &Virt, s: &S) -> Next {
        if raw.esr == ec::HVC << 26 | exits::LONG {
            return self.firmware(p, s);
        }
        self.carry_out(&raw, p, s)
    }

    fn complete(&mut self, done: Completion) {
        match done {
            Completion::Again => {}
            Completion::BadAddress(_, access) => self.external_abort(access),
        }
    }

    fn timer(&self) -> Option<Instant> {
        self.timers.next()
    }

    fn pending(&self, p: &Virt) -> bool {
        let lines = match self.loaded {
            Loaded::OnCpu => timer::lines_here(),
            Loaded::Saved => self.timers.lines_at(clock::now()),
        };
        p.gic().pending(self.index, &self.lists, lines)
    }
}
