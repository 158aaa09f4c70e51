//! Which VM each CPU is in, and how a flush reaches it.
//!
//! What a CPU has cached for a vCPU it may use whenever it is in the guest, and it drops such translations itself, before
//! it enters. So that nobody uses what a flush names after the flush has returned (R9):
//!
//! ```text
//!   enterer:  entries += 1, inside = tag; full fence; generation read: not what this vCPU saw here last? drop what is cached;
//!             enter; leave; inside = 0
//!   flusher:  tables changed; generation += 1; full fence; for each CPU with inside == tag: kick, wait until inside or
//!             entries changed
//! ```
//!
//! Either the flusher sees the CPU inside and waits for it to leave, or the CPU's read of the generation comes after the
//! flusher's write, and the CPU drops what it has. Generations are 64 bits wide and are never reset, not by a new life of
//! a VM either (exhibit F9). Several tags may share one: then a VM drops more than it has to.
//!
//! A vCPU that comes to another CPU believes nothing of what is cached there: what it saw last, it saw elsewhere.

use alloc::vec::Vec;

use hv_core::heap::list;
use hv_core::isa::VmTag;
use hv_core::machine::CpuId;
use hv_core::sync::{AtomicU32, AtomicU64, Ordering, fence, spin_loop};

/// Generations, a power of two. As many as a manifest can have VMs.
const GENERATIONS: usize = 32;

/// The tag of no VM.
const OUTSIDE: u32 = 0;

/// What a CPU publishes about its guest, in its own cache line.
#[derive(Debug)]
#[repr(align(128))]
struct Place {
    /// The tag of the VM inside, or [`OUTSIDE`].
    tag: AtomicU32,
    /// How often a guest has been entered.
    entries: AtomicU32,
}

/// A generation, in its own cache line: enterers read it, flushers of that VM write it.
#[derive(Debug)]
#[repr(align(128))]
struct Generation(AtomicU64);

/// All CPUs of a machine.
#[derive(Debug)]
pub struct Inside {
    places: Vec<Place>,
    generations: Vec<Generation>,
}

/// What a vCPU last saw of its VM's flushes, and on which CPU. The default has seen nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(Option<(CpuId, u64)>);

/// Whether a CPU may use what it has cached for a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "with stale translations a guest reaches memory that is no longer its own"]
pub enum Cached {
    /// It may.
    Valid,
    /// It has to drop all of it before it enters.
    Stale,
}

impl Inside {
    /// So many CPUs, nobody inside. `None` if there is no heap for it.
    #[must_use]
    pub fn new(cpus: usize) -> Option<Self> {
        let place = |_| Some(Place { tag: AtomicU32::new(OUTSIDE), entries: AtomicU32::new(0) });
        let generation = |_| Some(Generation(AtomicU64::new(0)));
        Some(Self { places: list(cpus, place)?, generations: list(GENERATIONS, generation)? })
    }

    /// CPU `cpu`, the caller, enters a vCPU of the VM with this tag right after this. No interrupt is taken from here
    /// until it is inside.
    #[inline]
    pub fn entering(&self, cpu: CpuId, tag: VmTag, seen: &mut Seen) -> Cached {
        let Some(place) = self.places.get(usize::from(cpu.0)) else { return Cached::Stale };
        // One writer: this CPU.
        place.entries.store(place.entries.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        place.tag.store(tag.0.get().into(), Ordering::Relaxed);
        // Orders the publication before the look at the generation, and before the processor's walks of the tables. Pairs with
        // the fence in `flush`. Not an exchange for both: loom takes fences only as seriously as that (scenarios `inside-*`).
        fence(Ordering::SeqCst);
        let now = Seen(Some((cpu, self.generation(tag).load(Ordering::Acquire))));
        if *seen == now {
            return Cached::Valid;
        }
        *seen = now;
        Cached::Stale
    }

    /// CPU `cpu`, the caller, has left its guest.
    #[inline]
    pub fn left(&self, cpu: CpuId) {
        if let Some(place) = self.places.get(usize::from(cpu.0)) {
            // Orders the guest's accesses before what a flusher does once it sees us outside; or in another guest by then, or in
            // the same one again: a fence holds for whatever is stored next.
            fence(Ordering::Release);
            place.tag.store(OUTSIDE, Ordering::Relaxed);
        }
    }

    /// Has every CPU drop what it has cached for the VM with this tag, before its next entry; returns once no CPU is inside
    /// that might still use it. `kick` makes a CPU leave its guest soon.
    pub fn flush(&self, tag: VmTag, mut kick: impl FnMut(CpuId)) {
        // After the change of the tables; whoever reads the new number sees the change.
        self.generation(tag).fetch_add(1, Ordering::Release);
        // Orders both before the look at who is inside. Pairs with the fence in `entering`.
        fence(Ordering::SeqCst);
        let tag = u32::from(tag.0.get());
        for (cpu, place) in (0..).map(CpuId).zip(&self.places) {
            let entries = place.entries.load(Ordering::Relaxed);
            if place.tag.load(Ordering::Acquire) != tag {
                continue;
            }
            kick(cpu);
            while place.tag.load(Ordering::Acquire) == tag && place.entries.load(Ordering::Acquire) == entries {
                spin_loop();
            }
        }
    }

    #[inline]
    fn generation(&self, tag: VmTag) -> &AtomicU64 {
        &self.generations[usize::from(tag.0.get()) % GENERATIONS].0
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU16;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use hv_core::isa::VmTag;
    use hv_core::machine::CpuId;

    use super::{Cached, GENERATIONS, Inside, Seen};

    fn tag(n: u16) -> VmTag {
        VmTag(NonZeroU16::new(n).unwrap())
    }

    fn enter(inside: &Inside, cpu: u16, n: u16, seen: &mut Seen) -> Cached {
        let cached = inside.entering(CpuId(cpu), tag(n), seen);
        inside.left(CpuId(cpu));
        cached
    }

    fn nobody(cpu: CpuId) {
        panic!("{cpu:?} is not inside");
    }

    #[test]
    fn what_was_cached_is_believed_until_a_flush_of_the_same_vm() {
        let inside = Inside::new(5).unwrap();
        let (mut one, mut other) = (Seen::default(), Seen::default());
        assert_eq!(enter(&inside, 0, 1, &mut one), Cached::Stale, "nothing is known at first");
        assert_eq!(enter(&inside, 0, 1, &mut one), Cached::Valid);
        assert_eq!(enter(&inside, 1, 2, &mut other), Cached::Stale);
        inside.flush(tag(1), nobody);
        assert_eq!(enter(&inside, 1, 2, &mut other), Cached::Valid, "another VM's");
        assert_eq!(enter(&inside, 0, 1, &mut one), Cached::Stale);
        assert_eq!(enter(&inside, 0, 1, &mut one), Cached::Valid);
    }

    #[test]
    fn f9_a_flush_is_not_forgotten_where_the_vcpu_was_not() {
        let inside = Inside::new(5).unwrap();
        let mut seen = Seen::default();
        assert_eq!(enter(&inside, 0, 1, &mut seen), Cached::Stale);
        assert_eq!(enter(&inside, 1, 1, &mut seen), Cached::Stale, "G1: what is cached there is of nobody knows when");
        inside.flush(tag(1), nobody);
        assert_eq!(enter(&inside, 1, 1, &mut seen), Cached::Stale);
        assert_eq!(enter(&inside, 0, 1, &mut seen), Cached::Stale, "it saw the flush on CPU 1 only");
    }

    #[test]
    fn tags_that_share_a_generation_drop_too_much_rather_than_too_little() {
        let inside = Inside::new(5).unwrap();
        let mut seen = Seen::default();
        assert_eq!(enter(&inside, 0, 1, &mut seen), Cached::Stale);
        inside.flush(tag(1 + GENERATIONS as u16), nobody);
        assert_eq!(enter(&inside, 0, 1, &mut seen), Cached::Stale);
    }

    #[test]
    fn a_flush_kicks_and_awaits_those_inside_and_nobody_else() {
        let inside = Inside::new(5).unwrap();
        let (mut one, mut other) = (Seen::default(), Seen::default());
        assert_eq!(inside.entering(CpuId(3), tag(1), &mut one), Cached::Stale);
        assert_eq!(inside.entering(CpuId(4), tag(2), &mut other), Cached::Stale);
        let mut kicked = Vec::new();
        inside.flush(tag(1), |cpu| {
            kicked.push(cpu);
            inside.left(cpu);
        });
        assert_eq!(kicked, [CpuId(3)]);
        // One that has left and come back since has seen the new generation, and is not waited for.
        assert_eq!(inside.entering(CpuId(3), tag(1), &mut one), Cached::Stale);
        inside.flush(tag(1), |cpu| {
            inside.left(cpu);
            assert_eq!(inside.entering(cpu, tag(1), &mut one), Cached::Stale);
        });
    }

    /// A CPU's cache is a value that it read from the table while inside; the table changes, then a flush, then the old value
    /// is poison.
    #[test]
    fn r9_nobody_uses_what_a_flush_named_once_it_has_returned() {
        const ROUNDS: u64 = 500;
        let inside = Inside::new(5).unwrap();
        let (table, dead) = (AtomicU64::new(1), AtomicU64::new(0));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for cpu in 0..2 {
                let (inside, table, dead, over) = (&inside, &table, &dead, &over);
                scope.spawn(move || {
                    let (mut seen, mut cached) = (Seen::default(), 0);
                    while !over.load(Ordering::Relaxed) {
                        if inside.entering(CpuId(cpu), tag(1), &mut seen) == Cached::Stale || cached == 0 {
                            cached = table.load(Ordering::SeqCst);
                        }
                        let is_alive = cached > dead.load(Ordering::SeqCst);
                        inside.left(CpuId(cpu));
                        assert!(is_alive, "a translation was used after its flush");
                    }
                });
            }
            for n in 1..=ROUNDS {
                table.store(n + 1, Ordering::SeqCst);
                inside.flush(tag(1), |_| {});
                dead.store(n, Ordering::SeqCst);
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}
