//! A CPU's own free frames, so that taking one and giving one back disturbs nobody.
//!
//! Who wants frames one by one wants many, and mostly gives back what it took: single frames and huge blocks wait here,
//! latest last, the one whose lines are still in a cache. The shelves are made when a CPU first uses them, so CPUs that do
//! not exist cost one line each.

use alloc::vec;

use heapless::Vec;

use super::buddy::Buddy;
use crate::addr::{Order, Pfn};
use crate::host::HUGE;
use crate::sync::SMALL;

/// Single frames that a CPU keeps, at most.
const SINGLES: usize = if SMALL { 2 } else { 64 };
/// Singles come as blocks of up to this order, and go by as many: half of what fits.
const BATCH: u8 = if SMALL { 0 } else { 5 };
/// Huge blocks that a CPU keeps, at most. Splitting and merging one costs more than all else about it.
const BLOCKS: usize = if SMALL { 1 } else { 2 };
/// Zeroed single frames that a CPU keeps, at most.
const CLEAN: usize = if SMALL { 1 } else { 16 };

/// What a CPU keeps, if it has used it.
#[derive(Debug, Default)]
pub(super) struct Cache(vec::Vec<Shelves>);

/// In lines of its own: nothing of another CPU's lies beside it on the heap.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shelves {
    singles: Vec<Pfn, SINGLES>,
    blocks: Vec<Pfn, BLOCKS>,
    clean: Vec<Pfn, CLEAN>,
}

/// True if two blocks share frames: the smaller lies in the larger.
pub(super) fn meet(a: (Pfn, Order), b: (Pfn, Order)) -> bool {
    let larger = a.1.max(b.1);
    a.0.align_down(larger) == b.0.align_down(larger)
}

impl Cache {
    /// Takes a block of `order`; none if it is not of a size that is kept, or there is none.
    pub fn pop(&mut self, order: Order) -> Option<Pfn> {
        let shelves = self.0.first_mut()?;
        match order {
            Order::PAGE => shelves.singles.pop(),
            HUGE => shelves.blocks.pop(),
            _ => None,
        }
    }

    /// Keeps a block; it comes back if it is not of a size that is kept, or there is no room for it.
    pub fn push(&mut self, pfn: Pfn, order: Order) -> Result<(), Pfn> {
        let Some(shelves) = self.0.first_mut() else { return Err(pfn) };
        match order {
            Order::PAGE => shelves.singles.push(pfn),
            HUGE => shelves.blocks.push(pfn),
            _ => Err(pfn),
        }
    }

    /// The shelves, if the CPU has them.
    pub fn shelves(&mut self) -> Option<&mut Shelves> {
        self.0.first_mut()
    }

    /// Makes the shelves. False if there is no heap for them.
    pub fn make(&mut self) -> bool {
        if self.0.try_reserve_exact(1).is_err() {
            return false;
        }
        self.0.push(Shelves::default());
        true
    }

    /// How many frames it holds.
    pub fn free(&self) -> u64 {
        let count = |s: &Shelves| {
            let singles = s.singles.len().saturating_add(s.clean.len()) as u64;
            singles.saturating_add((s.blocks.len() as u64).saturating_mul(HUGE.pages()))
        };
        self.0.first().map_or(0, count)
    }

    /// True if any frame of the block is in it.
    pub fn any_free(&self, pfn: Pfn, order: Order) -> bool {
        let Some(s) = self.0.first() else { return false };
        let single = s.singles.iter().chain(&s.clean).any(|&at| meet((at, Order::PAGE), (pfn, order)));
        single || s.blocks.iter().any(|&at| meet((at, HUGE), (pfn, order)))
    }

    /// Gives all it has to the buddy.
    pub fn drain(&mut self, buddy: &mut Buddy) {
        let Some(s) = self.shelves() else { return };
        s.singles.iter().chain(&s.clean).for_each(|&pfn| buddy.give(pfn, Order::PAGE));
        s.blocks.iter().for_each(|&pfn| buddy.give(pfn, HUGE));
        *s = Shelves::default();
    }
}

impl Shelves {
    /// Takes a single frame that holds zeros.
    pub fn pop_clean(&mut self) -> Option<Pfn> {
        self.clean.pop()
    }

    /// Keeps a single frame that holds zeros; it comes back if the shelf is full.
    pub fn push_clean(&mut self, pfn: Pfn) -> Result<(), Pfn> {
        self.clean.push(pfn)
    }

    /// Takes a single frame out of a batch from the buddy, and keeps the rest of it.
    pub fn refill(&mut self, buddy: &mut Buddy) -> Option<Pfn> {
        let (pfn, k) = (0..=BATCH).rev().filter_map(Order::new).find_map(|k| Some((buddy.take(k)?, k)))?;
        // From above, so that they are handed out from below. A batch is half the shelf, which is empty.
        for n in (1..k.pages()).rev() {
            let pushed = self.singles.push(Pfn(pfn.0 | n));
            debug_assert!(pushed.is_ok(), "the shelf was not empty");
        }
        Some(pfn)
    }

    /// Makes room for single frames: up to a batch goes to the buddy, those that have waited longest.
    pub fn spill(&mut self, buddy: &mut Buddy) {
        let batch = self.singles.len().min(1 << BATCH);
        self.singles.drain(..batch).for_each(|pfn| buddy.give(pfn, Order::PAGE));
    }
}
