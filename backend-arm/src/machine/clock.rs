//! The physical counter, the calendar, and EL2's own timer (DDI 0487, D12).
//!
//! Time is CNTPCT_EL0, and guests read it too: none is offset. EL2's physical timer, CNTHP, wakes an idle CPU and ends a
//! guest's turn; the guests own the other two.
#![expect(unsafe_code, reason = "timer registers that aarch64-cpu has not, and a device")]

use core::arch::asm;

use aarch64_cpu::asm::barrier::{SY, dsb, isb};
use aarch64_cpu::asm::wfi;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTHP_CTL_EL2, CNTPCT_EL0, Readable as _, Writeable as _};
use hv_core::machine::Instant;

/// The private interrupt of EL2's physical timer.
pub const TIMER: u32 = 26;
/// Those of the guest's timers, virtual and physical.
pub const GUEST_TIMERS: [u32; 2] = [27, 30];

/// Now. Not read ahead of what comes before it.
#[inline]
pub fn now() -> Instant {
    isb(SY);
    Instant(CNTPCT_EL0.get())
}

/// Microseconds since the counter began, for the log.
pub fn microseconds() -> u64 {
    let (ticks, hz) = (CNTPCT_EL0.get(), CNTFRQ_EL0.get().max(1));
    ticks / hz * 1_000_000 + ticks % hz * 1_000_000 / hz
}

/// Sleeps until `until`, or until an interrupt is pending. Interrupts are masked, which does not keep WFI from ending.
pub fn sleep(until: Instant) {
    // SAFETY: EL2's timer is ours, and its interrupt is one that `interrupts` takes.
    unsafe { asm!("msr cnthp_cval_el2, {0}", in(reg) until.0, options(nostack, preserves_flags)) };
    CNTHP_CTL_EL2.set(1);
    isb(SY);
    dsb(SY);
    wfi();
    stop();
}

/// Turns EL2's timer off: its line falls.
pub fn stop() {
    CNTHP_CTL_EL2.set(0);
    isb(SY);
}

/// Seconds since 1970 by the PL031 at `rtc` (its data register is its first; DDI 0224, 3.3.1).
///
/// # Safety
/// Such a device is there, mapped as a device.
pub unsafe fn calendar(rtc: u64) -> u32 {
    // SAFETY: reading the data register changes nothing.
    unsafe { core::ptr::with_exposed_provenance::<u32>(rtc as usize).read_volatile() }
}
