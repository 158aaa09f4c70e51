//! Who still has translations of a VM cached, where no instruction drops them everywhere (POWER8: ISA 2.07 has `tlbie` for one
//! page, and for a whole partition only `tlbiel`, which is for the CPU that executes it).
//!
//! ```text
//!   flusher:  tables changed; changes[tag] += 1; full fence; CPUs that are inside: kicked, waited for   (inside.rs)
//!   enterer:  inside = tag; full fence; changes[tag] not what this CPU saw last: drops all that it holds; enters
//! ```
//!
//! Either the flusher sees the CPU inside and waits for its exit, or the CPU sees the change (R9). A CPU remembers one VM, the
//! last that it entered.

use hv_core::epoch::{Cpu, MAX_CPUS};
use hv_core::guest::manifest::MAX_VMS;
use hv_core::isa::VmTag;
use hv_core::sync::{AtomicU32, AtomicU64, Ordering};

/// What one CPU saw last: tag, and number of changes. In a cache line of its own, written by that CPU.
#[derive(Debug)]
#[repr(align(128))]
struct Seen(AtomicU64);

/// All VMs and CPUs.
#[derive(Debug)]
pub struct Stale {
    changes: [AtomicU32; MAX_VMS + 1],
    seen: [Seen; MAX_CPUS],
}

impl Stale {
    /// Nobody has anything.
    #[must_use]
    pub fn new() -> Self {
        Self {
            changes: core::array::from_fn(|_| AtomicU32::new(0)),
            seen: core::array::from_fn(|_| Seen(AtomicU64::new(0))),
        }
    }

    /// What any CPU has cached of the VM is out of date. Before the fence after which the caller looks who is inside.
    pub fn changed(&self, tag: VmTag) {
        if let Some(changes) = self.changes.get(usize::from(tag.0.get())) {
            changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The CPU, which has said that it is inside, is about to enter the VM: true if it has to drop what it holds first.
    pub fn entering(&self, cpu: &Cpu, tag: VmTag) -> bool {
        let places = (self.changes.get(usize::from(tag.0.get())), self.seen.get(usize::from(cpu.id().0)));
        let (Some(changes), Some(Seen(seen))) = places else { return true };
        let now = u64::from(tag.0.get()) << 32 | u64::from(changes.load(Ordering::Relaxed));
        let stale = seen.load(Ordering::Relaxed) != now;
        if stale {
            seen.store(now, Ordering::Relaxed);
        }
        stale
    }
}

impl Default for Stale {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Stale;
    use core::num::NonZeroU16;
    use hv_core::epoch::Domain;
    use hv_core::isa::VmTag;
    use hv_core::machine::CpuId;

    #[test]
    fn r9_a_cpu_drops_what_it_holds_after_every_change_and_every_other_vm() {
        let domain = Domain::new();
        let cpus = [0, 1].map(|n| domain.cpu(CpuId(n)).unwrap());
        let [a, b] = [1, 2].map(|n| VmTag(NonZeroU16::new(n).unwrap()));
        let stale = Stale::new();
        assert!(stale.entering(&cpus[0], a), "the first time it may hold anything");
        assert!(!stale.entering(&cpus[0], a));
        stale.changed(b);
        assert!(!stale.entering(&cpus[0], a), "another VM's change");
        stale.changed(a);
        assert!(stale.entering(&cpus[0], a) && !stale.entering(&cpus[0], a));
        assert!(stale.entering(&cpus[1], a), "the other CPU has dropped nothing yet");
        assert!(stale.entering(&cpus[0], b) && stale.entering(&cpus[0], a), "it remembers one");
        let none = VmTag(NonZeroU16::new(99).unwrap());
        stale.changed(none);
        assert!(stale.entering(&cpus[0], none) && stale.entering(&cpus[0], none), "a VM too many");
        cpus.into_iter().for_each(|cpu| domain.leave(cpu));
    }
}
