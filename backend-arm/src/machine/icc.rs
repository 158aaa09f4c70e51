//! The physical GIC's CPU interface, of the calling CPU (IHI 0069, 12.2). The board has set it up for group 1 interrupts
//! with priority drop and deactivation apart (ICC_CTLR_EL1.EOImode = 1).
#![expect(unsafe_code, reason = "system registers that aarch64-cpu has not")]

use core::arch::asm;

use aarch64_cpu::asm::barrier::{ISHST, SY, dsb, isb};

/// The SGI that kicks a CPU.
pub const KICK: u32 = 0;

/// INTIDs from here on are special: nothing is pending.
const SPECIAL: u32 = 1020;

/// Takes the pending interrupt of highest priority (ICC_IAR1_EL1): it is active from here on.
pub fn acknowledge() -> Option<u32> {
    let id: u64;
    // SAFETY: changes the state of the interrupt that it returns only.
    unsafe { asm!("mrs {0}, icc_iar1_el1", out(reg) id, options(nostack, preserves_flags)) };
    // So that what was made pending with the interrupt is seen.
    dsb(SY);
    let id = id as u32 & 0xff_ffff;
    (id < SPECIAL).then_some(id)
}

/// Ends its priority (ICC_EOIR1_EL1): others may be taken, it stays active.
pub fn drop_priority(id: u32) {
    // SAFETY: lowers the running priority only.
    unsafe { asm!("msr icc_eoir1_el1, {0}", in(reg) u64::from(id), options(nostack, preserves_flags)) };
    isb(SY);
}

/// Makes it inactive (ICC_DIR_EL1): it may become pending again.
pub fn deactivate(id: u32) {
    // SAFETY: changes the state of that interrupt only.
    unsafe { asm!("msr icc_dir_el1, {0}", in(reg) u64::from(id), options(nostack, preserves_flags)) };
    isb(SY);
}

/// Sends [`KICK`] to the CPU with this affinity (MPIDR_EL1's format), by ICC_SGI1R_EL1. What was stored before is seen by who
/// takes it.
pub fn kick(affinity: u64) {
    dsb(ISHST);
    let value = sgi(affinity, KICK);
    // SAFETY: makes an interrupt pending.
    unsafe { asm!("msr icc_sgi1r_el1, {0}", in(reg) value, options(nostack, preserves_flags)) };
    isb(SY);
}

/// ICC_SGI1R_EL1: Aff3 in 55:48, RS in 47:44, Aff2 in 39:32, INTID in 27:24, Aff1 in 23:16, a bit for Aff0 in its
/// group of 16.
const fn sgi(affinity: u64, id: u32) -> u64 {
    let (aff0, aff1, aff2, aff3) =
        (affinity & 0xff, affinity >> 8 & 0xff, affinity >> 16 & 0xff, affinity >> 32 & 0xff);
    aff3 << 48 | aff0 >> 4 << 44 | aff2 << 32 | (id as u64) << 24 | aff1 << 16 | 1 << (aff0 & 0xf)
}
