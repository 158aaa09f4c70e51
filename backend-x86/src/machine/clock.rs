//! Time is the TSC (Intel SDM vol. 3B, "Time-Stamp Counter"), which all CPUs count in step.
#![expect(unsafe_code, reason = "orders the read of the counter")]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_core::machine::Instant;

/// Ticks in a second; 0 until they are known.
static HZ: AtomicU64 = AtomicU64::new(0);

/// Now. Not read ahead of what comes before it.
#[inline]
pub fn now() -> Instant {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter. LFENCE waits for all loads before it (SDM vol. 2B, RDTSC).
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    Instant(u64::from(high) << 32 | u64::from(low))
}

/// Says how fast the counter counts. Once, on the boot CPU.
pub fn counts(hz: u64) {
    HZ.store(hz, Ordering::Relaxed);
}

/// Ticks in a second, as [`counts`] said.
#[must_use]
pub fn hz() -> u64 {
    HZ.load(Ordering::Relaxed)
}

/// Microseconds since the counter began, for the log.
#[must_use]
pub fn microseconds() -> u64 {
    let (ticks, hz) = (now().0, hz().max(1));
    ticks / hz * 1_000_000 + ticks % hz * 1_000_000 / hz
}
