//! Which guest each CPU is inside. What guests have cached goes when they leave, or may be in use until they do:
//!
//! ```text
//!   enterer:  inside = tag, entries += 1; full fence; enter (walks the tables afresh); inside = 0
//!   flusher:  tables changed; full fence; for each CPU with inside == tag: kick, wait until inside or entries changed
//! ```
//!
//! Either the flusher sees the CPU inside and waits for its exit, or the CPU's entry comes after the change (R9).

use hv_core::epoch::{Cpu, MAX_CPUS};
use hv_core::isa::VmTag;
use hv_core::machine::CpuId;
use hv_core::sync::{AtomicU32, Ordering, fence, spin_loop};

/// What a CPU publishes about its guest, in its own cache line.
#[derive(Debug)]
#[repr(align(128))]
struct Seat {
    /// The tag of the VM inside, 0 outside.
    tag: AtomicU32,
    /// How often a guest has been entered.
    entries: AtomicU32,
}

/// All CPUs.
#[derive(Debug)]
pub struct Inside([Seat; MAX_CPUS]);

impl Inside {
    /// Nobody is inside anything.
    #[must_use]
    pub fn new() -> Self {
        Self(core::array::from_fn(|_| Seat { tag: AtomicU32::new(0), entries: AtomicU32::new(0) }))
    }

    /// Runs `enter`, which enters a guest of the VM with this tag and returns when it has left; -1 for a CPU too many.
    #[inline(always)]
    pub fn with(&self, cpu: &Cpu, tag: VmTag, enter: impl FnOnce() -> i64) -> i64 {
        let Some(seat) = self.0.get(usize::from(cpu.id().0)) else { return -1 };
        // One writer: this CPU.
        seat.entries.store(seat.entries.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        seat.tag.store(tag.0.get().into(), Ordering::Relaxed);
        // Orders the publication before hardware's walk of the tables. Pairs with the fence in `wait`.
        fence(Ordering::SeqCst);
        let left = enter();
        // Orders the guest's accesses before what a flusher does once it sees us outside; or in another guest by then, or in the
        // same one again: a fence holds for whatever is stored next.
        fence(Ordering::Release);
        seat.tag.store(0, Ordering::Relaxed);
        left
    }

    /// Waits until every CPU that is inside the VM, of the first `cpus` ones, has left it once. `kick` makes a CPU leave.
    /// `invalidate`, which drops what is cached, comes between the fence and the first look.
    pub fn wait(&self, tag: VmTag, cpus: usize, invalidate: impl FnOnce(), kick: impl Fn(CpuId)) {
        // Orders the change of the tables before the look at who is inside. Pairs with the fence in `with`.
        fence(Ordering::SeqCst);
        invalidate();
        let tag = u32::from(tag.0.get());
        for (id, seat) in (0..).zip(self.0.iter().take(cpus)) {
            let entries = seat.entries.load(Ordering::Relaxed);
            if seat.tag.load(Ordering::Acquire) != tag {
                continue;
            }
            kick(CpuId(id));
            while seat.tag.load(Ordering::Acquire) == tag && seat.entries.load(Ordering::Acquire) == entries {
                spin_loop();
            }
        }
    }
}

impl Default for Inside {
    fn default() -> Self {
        Self::new()
    }
}
