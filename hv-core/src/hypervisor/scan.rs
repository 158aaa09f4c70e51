//! The search for blocks that can be mapped with one leaf, by CPUs that have nothing else to do.
//!
//! One CPU looks at a time, one block a step, VM after VM. A whole round that found nothing is followed by a rest: memory
//! changes slowly, and a look at every table costs time that the machine below may want.

use super::Hypervisor;
use crate::epoch::Cpu;
use crate::host::{ScanCursor, Scanned};
use crate::isa::Isa;
use crate::machine::{Instant, Machine};
use crate::vm::Vm;

/// Rounds in a second, at most.
const ROUNDS_PER_SECOND: u64 = 1;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// A block was looked at: there may be more to do.
    Stepped,
    /// Nothing to do for now.
    Rest,
}

/// Where the search is.
#[derive(Debug)]
pub(super) struct Scanning {
    vm: usize,
    cursor: ScanCursor,
    /// The VM that [`Scanning::cursor`] is about may have been taken down since: the cursor is a place, and harmless.
    rests_until: Instant,
}

impl Default for Scanning {
    fn default() -> Self {
        Self { vm: 0, cursor: ScanCursor::default(), rests_until: Instant(0) }
    }
}

impl<I: Isa> Hypervisor<I> {
    /// Looks at one block.
    pub(super) fn scan(&self, cpu: &Cpu) -> Scan {
        let Some(mut at) = self.scanning.try_lock() else { return Scan::Rest };
        let now = self.machine.now();
        if now < at.rests_until {
            return Scan::Rest;
        }
        let Some(vm) = self.vms.get(at.vm) else {
            let pause = self.machine.ticks_per_second() / ROUNDS_PER_SECOND;
            *at = Scanning { rests_until: now.after(pause), ..Scanning::default() };
            return Scan::Rest;
        };
        // A VM that is being taken apart waits for this handle, for one step.
        let round = match Vm::running(vm) {
            Some(running) => running.memory.scan(cpu, self.machine, &mut at.cursor) == Scanned::Round,
            None => true,
        };
        if round {
            at.vm = at.vm.saturating_add(1);
            at.cursor = ScanCursor::default();
        }
        Scan::Stepped
    }
}
