//! The alarm of each CPU: its local APIC's timer, set in the machine's time.
//!
//! The timer compares the TSC where it can. Elsewhere it counts down by itself, at its own speed, from at most 32 bits: such
//! an alarm may ring early, never late, and whoever set it sets it again.

use alloc::vec::Vec;

use hv_core::heap::list;
use hv_core::machine::{CpuId, Instant};
use hv_core::sync::{AtomicU64, Ordering};

/// How fast a machine's counters count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// The TSC.
    pub ticks_per_second: u64,
    /// The local APIC's timer, undivided.
    pub timer_per_second: u64,
}

impl Rates {
    /// Ticks of the timer in `ticks` of the TSC: at least 1, at most what the timer counts, never too many.
    #[must_use]
    pub fn timer(self, ticks: u64) -> u32 {
        let per_second = self.ticks_per_second.max(1);
        // What would overflow counts for less: an alarm may ring early.
        let (seconds, rest) = (ticks / per_second, ticks % per_second);
        let rest = rest.saturating_mul(self.timer_per_second) / per_second;
        let counts = seconds.saturating_mul(self.timer_per_second).saturating_add(rest);
        u32::try_from(counts).unwrap_or(u32::MAX).max(1)
    }
}

/// When a CPU's alarm rings, in its own cache line. Only that CPU looks.
#[derive(Debug)]
#[repr(align(128))]
struct Set(AtomicU64);

/// It has rung since it was set. No instant that anybody waits for: the counter has gone past it long ago.
const RANG: u64 = 0;

/// The alarms.
#[derive(Debug)]
pub struct Alarms(Vec<Set>);

impl Alarms {
    /// Those of so many CPUs, none of them set. `None` if there is no heap for them.
    #[must_use]
    pub fn new(cpus: usize) -> Option<Self> {
        list(cpus, |_| Some(Set(AtomicU64::new(Instant::NEVER.0)))).map(Self)
    }

    /// Notes that `cpu`, the caller, sets its own to `until`. False if it is set so already.
    #[inline]
    pub fn change(&self, cpu: CpuId, until: Instant) -> bool {
        // One writer: this CPU.
        self.0.get(usize::from(cpu.0)).is_some_and(|set| {
            let changes = set.0.load(Ordering::Relaxed) != until.0;
            if changes {
                set.0.store(until.0, Ordering::Relaxed);
            }
            changes
        })
    }

    /// That of `cpu`, the caller, has rung, and may ring again: whatever it is set to next is a change.
    pub fn rang(&self, cpu: CpuId) {
        if let Some(set) = self.0.get(usize::from(cpu.0)) {
            set.0.store(RANG, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use hv_core::machine::{CpuId, Instant};

    use super::{Alarms, Rates};

    #[test]
    fn the_timer_is_written_when_something_changes() {
        let (alarms, here, there) = (Alarms::new(2).unwrap(), CpuId(0), CpuId(1));
        assert!(!alarms.change(here, Instant::NEVER), "none is set");
        assert!(alarms.change(here, Instant(5)) && !alarms.change(here, Instant(5)));
        assert!(alarms.change(there, Instant(5)), "each CPU has its own");
        assert!(alarms.change(here, Instant(4)) && alarms.change(here, Instant::NEVER));
        assert!(alarms.change(here, Instant(9)));
        alarms.rang(here);
        assert!(alarms.change(here, Instant(9)), "it rang early, and is set again");
        alarms.rang(here);
        assert!(alarms.change(here, Instant::NEVER), "one that rings again is stopped");
        assert!(!alarms.change(there, Instant(5)));
    }

    #[test]
    fn an_alarm_rings_early_rather_than_late() {
        let rates = Rates { ticks_per_second: 2_400_000_000, timer_per_second: 1_000_000_000 };
        assert_eq!(rates.timer(2_400), 1_000);
        assert_eq!(rates.timer(2_399), 999);
        assert_eq!(rates.timer(0), 1, "0 would stop it");
        assert_eq!(rates.timer(u64::MAX - 1), u32::MAX);
        let unknown = Rates { ticks_per_second: 0, timer_per_second: 0 };
        assert_eq!(unknown.timer(5), 1);
    }
}
