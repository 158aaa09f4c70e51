//! One virtual CPU: its state, and its way onto a CPU, into the guest and off again.
//!
//! State is in three places. General registers, program counter and processor state are in [`Context`] whenever Trivet runs. The
//! registers of EL1 and EL0, the timers and the virtual CPU interface stay on the CPU from `load` to `put`. Floating-point and
//! debug registers come to the CPU at their first use in between.
//!
//! An entry has nothing to do but to compare two words as long as nobody wants the vCPU's attention. What does want it (an
//! interrupt that another vCPU sent, a timer that fired, list registers that ran empty) makes `enter` return at once, or after
//! the guest was left, with [`Raw::Guest`]: then `call` has a look, with all that it may use to wake others, and the guest
//! is entered again.
//!
//! Order on real hardware: what is written to system registers here holds for the guest because the exception return that
//! enters it synchronizes (DDI 0487, D1.4; SCTLR_EL2.EOS is 1 or not there); an ISB stands only where EL2 itself depends on a
//! write. The second stage is taken off with the vCPU: from then on EL1's registers and VTTBR_EL2 change one by one, and
//! although out of context translations may not be used speculatively (D8.2), processors with errata do so on behalf of AT
//! instructions; with the empty root in VTTBR_EL2 they find nothing.
#![expect(unsafe_code, reason = "enters guests, translates and drops their addresses")]

use core::arch::asm;

use aarch64_cpu::asm::barrier::{SY, isb};
use aarch64_cpu::registers::{
    CNTHCTL_EL2, CNTHP_CTL_EL2, CPTR_EL2, ESR_EL2, FAR_EL2, HCR_EL2, HPFAR_EL2, ID_AA64DFR0_EL1, ID_AA64ISAR1_EL1,
    ID_AA64MMFR1_EL1, ID_AA64PFR0_EL1, ID_AA64PFR1_EL1, MDCR_EL2, MIDR_EL1, PAR_EL1, Readable as _, VMPIDR_EL2,
    VTTBR_EL2, Writeable as _,
};
use hv_core::addr::Gpa;
use hv_core::epoch::Cpu;
use hv_core::isa::{Vcpu, VmTag};
use hv_core::machine::Instant;
use hv_core::vcpu::exit::{Completion, Exit, Fault, Next};
use hv_core::vcpu::services::{Services, StartAt};

use super::el1::{El1, Keys};
use super::enter::{Context, no_syndrome};
use super::exits::{self, Call, Cause, PageSource, Raw, ec};
use super::guards::{self, Debug, Extras, Float};
use super::lists::{self, Interface};
use super::psr::{Place, bits};
use super::registers::{CNTHP_CVAL_EL2, HCRX_EL2, HSTR_EL2, ID_AA64ISAR2_EL1, VPIDR_EL2};
use super::timer::{self, Timers};
use super::{debug, fp};
use crate::isa::Arm64;
use crate::machine::{ArmMachine, clock, icc};
use crate::stage2::ArmStage2;
use crate::vgic::Lists;
use crate::virt::{Virt, layout};

/// The private interrupt by which the virtual CPU interface asks for maintenance (Base System Architecture, 3.8).
pub const MAINTENANCE: u32 = 25;

/// What has to be done before the guest is entered.
pub mod attention {
    /// Interrupts are to be looked at.
    pub const LOOK: u8 = 1;
    /// The second stage is to be loaded.
    pub const STAGE2: u8 = 2;
}

/// A virtual CPU.
pub struct ArmVcpu {
    pub(super) context: Context,
    /// Of [`attention`].
    pub(super) attention: u8,
    /// What EL2's timer is set to; `None` if it has to be set.
    until: Option<Instant>,
    pub(super) index: u16,
    loaded: Loaded,
    pub(super) lists: Lists,
    timers: Timers,
    interface: Interface,
    el1: El1,
    keys: Keys,
    float: (Float, fp::Registers),
    pub(super) debug: (Debug, debug::Registers),
    extras: Extras,
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
        let extras = Extras::of(
            ID_AA64PFR0_EL1.get(),
            ID_AA64PFR1_EL1.get(),
            ID_AA64DFR0_EL1.get(),
            ID_AA64ISAR1_EL1.get(),
            ID_AA64ISAR2_EL1.get(),
            ID_AA64MMFR1_EL1.get(),
        );
        Some(Self {
            context: Context::new(Place { pc: 0, pstate: 0 }),
            attention: 0,
            until: None,
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
        self.until = None;
        self.attention = attention::STAGE2 | attention::LOOK;
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
    fn enter(&mut self, _: &Cpu, _: &ArmMachine, s2: &ArmStage2, p: &Virt, until: Instant) -> Raw {
        if (self.attention != 0 || p.gic().wants_look(self.index)) && self.attend(s2, p) {
            return Raw::Guest;
        }
        if self.until != Some(until) {
            self.set_deadline(until);
        }
        // SAFETY: the vCPU is loaded, and its second stage (`attend`); the vectors are the board's business, interrupts and
        // SErrors are masked at EL2 always.
        let esr = unsafe { self.context.enter() };
        match exits::class(esr) {
            ec::FETCH | ec::DATA => aborted(esr),
            no_syndrome::INTERRUPT => self.interrupted(),
            no_syndrome::SERROR => Raw::SystemError,
            _ => Raw::Sync { esr },
        }
    }

    #[inline]
    fn classify(&self, raw: &Raw) -> Exit<Arm64> {
        match exits::name(raw) {
            Cause::Fault(gpa, access) => Exit::Fault(Fault { gpa, access, claim: () }),
            Cause::Call(call) => Exit::Call(call),
            Cause::Interrupt => Exit::Interrupt,
            Cause::Deadline => Exit::Deadline,
            Cause::Broken(why) => Exit::Broken(why),
        }
    }

    #[inline]
    fn call<S: Services>(&mut self, call: Call, p: &Virt, s: &S) -> Next {
        self.carry_out(call, p, s)
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

impl ArmVcpu {
    /// Does what stands between the vCPU and its guest. True if interrupts are to be looked at first.
    #[cold]
    #[inline(never)]
    fn attend(&mut self, s2: &ArmStage2, p: &Virt) -> bool {
        if self.attention & attention::STAGE2 != 0 {
            VTTBR_EL2.set(s2.vttbr());
            // Another vCPU of this VM may have run here, and have used the same ASIDs for other tables of its own. (What it had
            // invalidated elsewhere has been invalidated here: HCR_EL2.FB.)
            // SAFETY: drops cached translations only, of the VM that VTTBR_EL2 names by then.
            unsafe { asm!("isb", "tlbi vmalle1", "dsb nsh", options(nostack, preserves_flags)) };
            self.attention &= !attention::STAGE2;
        }
        self.attention & attention::LOOK != 0 || p.gic().wants_look(self.index)
    }

    #[cold]
    #[inline(never)]
    fn set_deadline(&mut self, until: Instant) {
        CNTHP_CVAL_EL2.set(until.0);
        CNTHP_CTL_EL2.set(1);
        self.until = Some(until);
    }

    /// A physical interrupt has ended the guest's run: takes it.
    #[inline(never)]
    fn interrupted(&mut self) -> Raw {
        let id = icc::acknowledge();
        if let Some(id) = id {
            icc::drop_priority(id);
            if clock::GUEST_TIMERS.contains(&id) {
                // Active until the guest ends it.
                self.lists.acknowledged(id);
                self.attention |= attention::LOOK;
                return Raw::Guest;
            }
            if id == clock::TIMER {
                clock::stop();
            }
            // A device's line stays up, so its interrupt is pending again when the machine is asked for what it was about.
            icc::deactivate(id);
        }
        // Whoever takes further interrupts (`Machine::interrupts`) may acknowledge a timer of the guest's, and stop EL2's.
        self.attention |= attention::LOOK;
        self.until = None;
        match id {
            Some(clock::TIMER) => Raw::Deadline,
            Some(MAINTENANCE) => Raw::Guest,
            _ => Raw::Interrupt,
        }
    }

    /// Deactivates the guest's timers' interrupts in the host's controller: their state stays in the list registers, and they are
    /// acknowledged again where the vCPU comes to, if their lines are up there.
    fn release_physical(&mut self) {
        // One that was taken on the side, after the last look, is not known to be active. To deactivate what is not has no effect.
        let unknown = if self.attention & attention::LOOK != 0 { u32::MAX } else { 0 };
        let active = core::mem::take(&mut self.lists.physical) | unknown;
        for id in clock::GUEST_TIMERS {
            if active >> id & 1 != 0 {
                icc::deactivate(id);
            }
        }
    }

    /// Sets the traps that stand until something is lent.
    pub(super) fn guard(&self) {
        // HPMN is as firmware or the reset left it: all counters.
        let counters = MDCR_EL2.get() & 0x1f;
        CPTR_EL2.set(self.extras.cptr(self.float.0));
        MDCR_EL2.set(self.extras.mdcr(self.debug.0, counters));
    }

    pub(super) fn lend_float(&mut self) {
        self.float.0 = Float::Lent;
        self.guard();
        // EL2's own way to the registers is open only after this.
        isb(SY);
        self.float.1.load();
    }

    pub(super) fn lend_debug(&mut self) {
        self.debug.0 = Debug::Lent;
        self.guard();
        self.debug.1.load(&self.extras);
    }

    /// Moves the guest past the instruction that it was left at.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.context.place = self.context.place.past(ESR_EL2.get());
    }
}

/// Reads what belongs to an abort, before anything else can change it.
#[inline]
fn aborted(esr: u64) -> Raw {
    let far = FAR_EL2.get();
    let page = match exits::page_source(esr) {
        PageSource::Hpfar => Some(exits::hpfar_page(HPFAR_EL2.get())),
        PageSource::Translate => translated(far),
        PageSource::Nowhere => None,
    };
    Raw::Abort { esr, far, page }
}

/// The page of the guest's address `far` by its own first stage, as it is now.
#[cold]
fn translated(far: u64) -> Option<Gpa> {
    // PAR_EL1 is the guest's: it may be between its own AT and the reading of the answer.
    let guests = PAR_EL1.get();
    // SAFETY: translates an address of the loaded guest; a fault is reported in PAR_EL1 and nowhere else.
    unsafe { asm!("at s1e1r, {}", "isb", in(reg) far, options(nostack, preserves_flags)) };
    let par = PAR_EL1.get();
    PAR_EL1.set(guests);
    exits::par_page(par)
}
