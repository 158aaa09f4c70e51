//! The account of free blocks: powers of two that split on demand and merge when both halves are free.
//!
//! Each contiguous range of RAM is a zone; each zone keeps, per order, the set of its free blocks. All of the state is
//! in words handed over at boot, about 2.1 bits a frame, so that the heap stays small and the frames themselves are
//! never touched: hv-core cannot write to a frame, and need not.
//!
//! A plain data structure: [`super::Frames`] has the lock around it.

use heapless::Vec;

use super::bitmap::{Bitmap, words};
use super::frames::FramesError;
use crate::addr::{Order, Pfn, PfnRange};

/// The largest block: 1 GiB.
pub const MAX_ORDER: u8 = 18;
/// The most ranges of RAM.
pub const MAX_ZONES: usize = 16;
const ORDERS: usize = MAX_ORDER as usize + 1;

/// All zones.
#[derive(Debug)]
pub(super) struct Buddy {
    /// On the heap: a zone is 2 KiB, and an allocator is moved about while a machine is put together.
    zones: alloc::vec::Vec<Zone>,
    free: u64,
    refused: u64,
}

#[derive(Debug)]
struct Zone {
    range: PfnRange,
    /// Free blocks of each order; block numbers are relative to the block that holds the zone's first frame.
    free: Vec<Bitmap, ORDERS>,
    /// Bit k: there is a free block of order k.
    have: u32,
}

/// How many words the account of these ranges needs.
pub(super) fn metadata_words(ranges: &[PfnRange]) -> usize {
    ranges.iter().flat_map(|r| (0..=MAX_ORDER).map(|k| words(blocks(r, k)))).fold(0, usize::saturating_add)
}

impl Buddy {
    /// Everything in `ranges` is free.
    pub fn new(ranges: &[PfnRange], metadata: &'static mut [u64]) -> Result<Self, FramesError> {
        let mut zones = alloc::vec::Vec::new();
        zones.try_reserve_exact(ranges.len()).map_err(|_| FramesError::Metadata)?;
        let mut free = 0_u64;
        let mut rest = metadata;
        for range in ranges {
            if zones.iter().any(|z: &Zone| z.range.intersect(range).is_some()) {
                return Err(FramesError::Overlap);
            }
            let (zone, after) = Zone::new(*range, rest).ok_or(FramesError::Metadata)?;
            rest = after;
            free = free.saturating_add(range.pages());
            zones.push(zone);
        }
        Ok(Self { zones, free, refused: 0 })
    }

    /// Takes a block of `order`, aligned to its size.
    pub fn take(&mut self, order: Order) -> Option<Pfn> {
        let pfn = self.zones.iter_mut().find_map(|z| z.take(order.get()))?;
        self.free = self.free.saturating_sub(order.pages());
        Some(pfn)
    }

    /// Takes a block back, merging it as far as that goes. One that is none of a zone's is refused.
    pub fn give(&mut self, pfn: Pfn, order: Order) {
        let zone = self.zones.iter_mut().find(|z| z.range.contains(pfn));
        if zone.is_some_and(|z| z.give(pfn, order)) {
            self.free = self.free.saturating_add(order.pages());
        } else {
            self.refuse(pfn, order);
        }
    }

    /// Notes that a block was given back that is not allocated.
    #[cold]
    pub fn refuse(&mut self, pfn: Pfn, order: Order) {
        debug_assert!(false, "a block was freed that was not allocated: {pfn:?} {order:?}");
        self.refused = self.refused.saturating_add(1);
    }

    /// Free frames.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// How often something was refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// True if any frame of the block is free.
    pub fn any_free(&self, pfn: Pfn, order: Order) -> bool {
        self.zones.iter().any(|z| z.any_free(pfn.0, order))
    }
}

/// How many blocks of order `k` touch the range.
fn blocks(range: &PfnRange, k: u8) -> usize {
    let first = range.start().0 >> k;
    let last = (range.end().0.saturating_sub(1)) >> k;
    usize::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or(usize::MAX)
}

impl Zone {
    fn new(range: PfnRange, memory: &'static mut [u64]) -> Option<(Self, &'static mut [u64])> {
        let mut free = Vec::new();
        let mut rest = memory;
        for k in 0..=MAX_ORDER {
            let (map, after) = Bitmap::new(blocks(&range, k), rest)?;
            rest = after;
            free.push(map).ok()?;
        }
        let mut zone = Self { range, free, have: 0 };
        // Cover the range with the largest blocks that fit.
        let mut pfn = range.start().0;
        while pfn < range.end().0 {
            let left = range.end().0.saturating_sub(pfn);
            let k = (0..=MAX_ORDER).rev().find(|&k| pfn & ((1 << k) - 1) == 0 && 1 << k <= left)?;
            zone.insert(pfn, k);
            pfn = pfn.checked_add(1 << k)?;
        }
        Some((zone, rest))
    }

    /// The number of the block of order `k` that holds `pfn`.
    fn index(&self, pfn: u64, k: u8) -> Option<usize> {
        usize::try_from((pfn >> k).checked_sub(self.range.start().0 >> k)?).ok()
    }

    fn insert(&mut self, pfn: u64, k: u8) -> bool {
        let Some(n) = self.index(pfn, k) else { return false };
        self.have |= 1 << k;
        self.free.get_mut(usize::from(k)).is_some_and(|map| map.insert(n))
    }

    fn remove(&mut self, pfn: u64, k: u8) -> bool {
        let (Some(n), Some(map)) = (self.index(pfn, k), self.free.get_mut(usize::from(k))) else { return false };
        let removed = map.remove(n);
        if map.is_empty() {
            self.have &= !(1 << k);
        }
        removed
    }

    /// Takes a block of order `k` out of the smallest free block that has one; the halves it splits off stay free.
    fn take(&mut self, k: u8) -> Option<Pfn> {
        // An order beyond MAX_ORDER shifts everything out, or is none of a word's bits.
        let fit = self.have.checked_shr(k.into()).filter(|&fit| fit != 0)?;
        let mut order = k.checked_add(fit.trailing_zeros() as u8)?;
        let n = self.free.get(usize::from(order))?.first()?;
        let pfn = (self.range.start().0 >> order).checked_add(n as u64)? << order;
        self.remove(pfn, order);
        while order > k {
            order = order.checked_sub(1)?;
            self.insert(pfn | 1 << order, order);
        }
        Some(Pfn(pfn))
    }

    /// Takes a block back, merging it with its other half as far as that is free. False if it is none of this zone's.
    fn give(&mut self, pfn: Pfn, order: Order) -> bool {
        let block = PfnRange::new(pfn, order.pages());
        if order.get() > MAX_ORDER || !pfn.is_aligned(order) || !block.is_some_and(|b| self.range.covers(&b)) {
            return false;
        }
        let (mut at, mut order) = (pfn.0, order.get());
        // Most often there is no other half, and most often not even a free block of its size.
        while order < MAX_ORDER && self.have >> order & 1 == 1 && self.remove(at ^ 1 << order, order) {
            at &= !(1 << order);
            order = order.saturating_add(1);
        }
        self.insert(at, order)
    }

    /// True if the block, a part of it, or a block that contains it, is free.
    fn any_free(&self, pfn: u64, order: Order) -> bool {
        (0..=MAX_ORDER).any(|j| {
            let last = pfn.saturating_add(order.pages().saturating_sub(1));
            let (Some(first), Some(last)) = (self.index(pfn, j), self.index(last, j)) else { return false };
            self.free.get(usize::from(j)).is_some_and(|map| map.any_of(first, last.saturating_add(1)))
        })
    }
}
