//! What happens to a vCPU between its entries, on the CPU that holds it: its second stage, its deadline, physical interrupts, what
//! is lent to it, and what an abort leaves to be read.
#![expect(unsafe_code, reason = "translates and drops a guest's addresses")]

use core::arch::asm;

use aarch64_cpu::asm::barrier::{SY, isb};
use aarch64_cpu::registers::{
    CNTHP_CTL_EL2, CPTR_EL2, ESR_EL2, FAR_EL2, HPFAR_EL2, MDCR_EL2, PAR_EL1, Readable as _, VTTBR_EL2, Writeable as _,
};
use hv_core::addr::Gpa;
use hv_core::machine::Instant;

use super::aborts::{self, PageSource};
use super::cpu::{ArmVcpu, attention};
use super::exits::Raw;
use super::guards::{Debug, Float};
use super::registers::CNTHP_CVAL_EL2;
use super::{lists, timer};
use crate::machine::{clock, icc};
use crate::stage2::ArmStage2;
use crate::vgic::lists::bits;
use crate::virt::Virt;

/// The private interrupt by which the virtual CPU interface asks for maintenance (Base System Architecture, 3.8).
pub const MAINTENANCE: u32 = 25;

impl ArmVcpu {
    /// Does what stands between the vCPU and its guest. True if other vCPUs are to be woken first.
    #[inline]
    pub(super) fn attend(&mut self, s2: &ArmStage2, p: &Virt, until: Instant) -> bool {
        if self.attention & (attention::DEADLINE | attention::STAGE2) != 0 {
            self.come(s2, until);
        }
        if self.attention & attention::LOOK != 0 || p.gic().wants_look(self.index) {
            self.attention &= !attention::LOOK;
            self.look(p);
        }
        self.lists.wake != 0
    }

    /// The first entry of a turn, or that after an interrupt of Trivet's.
    #[cold]
    #[inline(never)]
    fn come(&mut self, s2: &ArmStage2, until: Instant) {
        if self.attention & attention::DEADLINE != 0 {
            self.set_deadline(until);
        }
        if self.attention & attention::STAGE2 != 0 {
            VTTBR_EL2.set(s2.vttbr());
            // Another vCPU of this VM may have run here, and have used the same ASIDs for other tables of its own. (What it had
            // invalidated elsewhere has been invalidated here: HCR_EL2.FB.)
            // SAFETY: drops cached translations only, of the VM that VTTBR_EL2 names by then.
            unsafe { asm!("isb", "tlbi vmalle1", "dsb nsh", options(nostack, preserves_flags)) };
            self.attention &= !attention::STAGE2;
        }
    }

    /// Brings the list registers up to date with what waits for the vCPU. `lists.wake` says who is to be woken for what it
    /// leaves.
    #[inline]
    fn look(&mut self, p: &Virt) {
        let (gic, held) = (p.gic(), &mut self.lists);
        lists::copy_out(held);
        gic.fold(self.index, held);
        let how = gic.fill(self.index, held, timer::lines_here());
        // What is listed and was not acknowledged is acknowledged when it ends the guest's run: at once.
        held.engage = 0;
        for id in bits(core::mem::take(&mut held.release).into()) {
            icc::deactivate(id);
        }
        lists::copy_in(held, how.0);
    }

    #[cold]
    #[inline(never)]
    pub(super) fn set_deadline(&mut self, until: Instant) {
        CNTHP_CVAL_EL2.set(until.0);
        CNTHP_CTL_EL2.set(1);
        self.until = until;
        self.attention &= !attention::DEADLINE;
    }

    /// A physical interrupt has ended the guest's run: takes it.
    #[inline(never)]
    pub(super) fn interrupted(&mut self) -> Raw {
        let id = icc::acknowledge();
        if let Some(id) = id {
            icc::drop_priority(id);
            if clock::GUEST_TIMERS.contains(&id) {
                // Active until the guest ends it.
                self.lists.acknowledged(id);
                self.attention |= attention::LOOK;
                return Raw::GUEST;
            }
            if id == clock::TIMER {
                clock::stop();
            }
            // A device's line stays up, so its interrupt is pending again when the machine is asked for what it was about.
            icc::deactivate(id);
        }
        // Whoever takes further interrupts (`Machine::interrupts`) may acknowledge a timer of the guest's, and stop EL2's.
        self.attention |= attention::LOOK | attention::DEADLINE;
        match id {
            Some(clock::TIMER) => Raw::DEADLINE,
            Some(MAINTENANCE) => Raw::GUEST,
            _ => Raw::INTERRUPT,
        }
    }

    /// Deactivates the guest's timers' interrupts in the host's controller: their state stays in the list registers, and they are
    /// acknowledged again where the vCPU comes to, if their lines are up there.
    pub(super) fn release_physical(&mut self) {
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
pub(super) fn aborted(esr: u64) -> Raw {
    let far = FAR_EL2.get();
    let page = match aborts::page_source(esr) {
        PageSource::Hpfar => Some(aborts::hpfar_page(HPFAR_EL2.get())),
        PageSource::Translate => translated(far),
        PageSource::Nowhere => None,
    };
    Raw { esr, far, page }
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
    aborts::par_page(par)
}
