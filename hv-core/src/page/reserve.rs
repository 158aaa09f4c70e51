//! Frames that only who is freeing others may take.
//!
//! To give a page to a store takes a frame now and then: one for the store, one for the table of small leaves where a
//! large one stood. Where nothing is free that frame must come from somewhere, or nothing will ever be free.
//!
//! ```text
//!   anybody    alloc: caches, pool, buddy: none                -> None
//!   reclaimer  Reclaiming::begin: the one of the machine (rank Reclaim, before all other ranked locks)
//!              alloc: caches, pool, buddy: none                -> a frame of the reserve
//!              page by page: at most one frame taken for each that is freed, so a few frames last
//!              Reclaiming is dropped: before anybody else is told of what was freed, the reserve is filled up from it
//! ```
//!
//! Only one CPU reclaims at a time: the reserve is never shared, and a reclaimer that finds it empty knows that nothing is
//! to be had. Locks: the reserve's own is of the allocator's, innermost.

use heapless::Vec;

use super::Frames;
use crate::addr::{Order, Pfn};
use crate::epoch::Cpu;
use crate::sync::{AtomicU64, Mutex, Ordering, Rank, Ranked, RankedGuard, SMALL};

/// Frames that it can hold.
const MOST: usize = if SMALL { 2 } else { 64 };
/// Frames that it holds where there is a store.
pub const RESERVE: u64 = MOST as u64;

/// The reserve.
#[derive(Debug)]
pub(super) struct Reserve {
    stock: Mutex<Vec<Pfn, MOST>>,
    /// How many frames it is to hold.
    wanted: AtomicU64,
    turn: Ranked<()>,
}

/// A CPU that frees frames: the machine's only one while this lives, and it may take from the reserve.
#[derive(Debug)]
#[must_use = "the reserve is open while this lives"]
pub struct Reclaiming<'a> {
    frames: &'a Frames,
    cpu: &'a Cpu,
    _turn: RankedGuard<'a, ()>,
}

impl Reserve {
    /// An empty one.
    pub fn new() -> Self {
        let (stock, wanted) = (Mutex::new(Vec::new()), AtomicU64::new(0));
        Self { stock, wanted, turn: Ranked::new(Rank::Reclaim, ()) }
    }

    /// A frame, for a CPU that is freeing others.
    pub fn take(&self, cpu: &Cpu, order: Order) -> Option<Pfn> {
        if order != Order::PAGE || !cpu.is_reclaiming() {
            return None;
        }
        self.stock.lock().pop()
    }

    /// Frames in it.
    pub fn frames(&self) -> u64 {
        self.stock.lock().len() as u64
    }

    /// True if this frame lies in it.
    pub fn has(&self, pfn: Pfn) -> bool {
        self.stock.lock().contains(&pfn)
    }

    fn wants(&self) -> bool {
        let stock = self.stock.lock();
        !stock.is_full() && (stock.len() as u64) < self.wanted.load(Ordering::Relaxed)
    }
}

impl Frames {
    /// Sees to it that there is a reserve of `frames` frames, 64 at most; a larger one stays. What is not free now will be
    /// taken of what the next reclaimer frees.
    pub fn keep_reserve(&self, cpu: &Cpu, frames: u64) {
        self.reserve().wanted.fetch_max(frames, Ordering::Relaxed);
        self.fill_reserve(cpu);
    }

    /// Begins to free frames. Waits for its turn: the caller holds no guard and no ranked lock.
    pub fn reclaiming<'a>(&'a self, cpu: &'a Cpu) -> Reclaiming<'a> {
        let turn = self.reserve().turn.lock(cpu);
        // What others freed since the last reclaimer found nothing to fill it up with.
        self.fill_reserve(cpu);
        let before = cpu.set_reclaiming(true);
        debug_assert!(!before, "R27: a CPU came back reclaiming");
        Reclaiming { frames: self, cpu, _turn: turn }
    }

    fn fill_reserve(&self, cpu: &Cpu) {
        while self.reserve().wants() {
            let Some(pfn) = self.spare(cpu) else { return };
            if let Err(pfn) = self.reserve().stock.lock().push(pfn) {
                // Two CPUs fill it at once.
                return self.return_spare(cpu, pfn);
            }
        }
    }
}

impl Drop for Reclaiming<'_> {
    fn drop(&mut self) {
        self.cpu.set_reclaiming(false);
        self.frames.fill_reserve(self.cpu);
    }
}
