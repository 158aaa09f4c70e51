//! What a VM's host space is made of: a few ranges, fixed when the VM is built.
//!
//! A region says where its frames come from and when they are mapped in large blocks. Nothing here changes while the VM
//! lives but the advice, one bit a block, which anybody may give at any time.

use alloc::vec::Vec;

use super::HUGE;
use crate::addr::{Hvn, HvnRange, Order, Pfn};
use crate::sync::{AtomicU64, Ordering};

/// The most regions of one VM.
pub const MAX_REGIONS: usize = 8;
const WORD: u64 = u64::BITS as u64;

/// Where a region's frames come from.
#[derive(Clone, Debug)]
pub enum Backing {
    /// The allocator, zeroed at the first touch; the VM's alone.
    Anon,
    /// Frames that the allocator does not own, in order from this one: a device's, firmware's. They are never freed and
    /// never mapped in large blocks (exhibit I4).
    Fixed {
        /// The frame of the region's first page.
        first: Pfn,
    },
}

/// When a region is mapped in large blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePolicy {
    /// Wherever a whole block fits, from the first touch.
    Always,
    /// In blocks that somebody advised.
    #[default]
    Advise,
    /// Nowhere.
    Never,
}

/// Why a block is not mapped with one large leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotHuge {
    /// The region's policy, or nobody advised it.
    Policy,
    /// The block is not all in one region.
    Region,
    /// Frames that the allocator does not own.
    Reserved,
    /// It is mapped so already.
    AlreadyHuge,
}

/// A range of the host space.
#[derive(Debug)]
pub struct Region {
    hvns: HvnRange,
    backing: Backing,
    huge: HugePolicy,
    /// Bit n: block n, counted from the one that holds the region's first page, is advised.
    advice: Vec<AtomicU64>,
}

impl Region {
    /// A region; `None` if there is no heap for its advice.
    #[must_use]
    pub fn new(hvns: HvnRange, backing: Backing, huge: HugePolicy) -> Option<Self> {
        let mut advice = Vec::new();
        if huge == HugePolicy::Advise {
            let last = HUGE.align_down(hvns.end().0.checked_sub(1)?);
            let blocks = (last.checked_sub(HUGE.align_down(hvns.start().0))? >> HUGE.get()).checked_add(1)?;
            let words = usize::try_from(blocks.div_ceil(WORD)).ok()?;
            advice.try_reserve_exact(words).ok()?;
            advice.extend((0..words).map(|_| AtomicU64::new(0)));
        }
        Some(Self { hvns, backing, huge, advice })
    }

    /// Its pages.
    #[must_use]
    pub fn hvns(&self) -> HvnRange {
        self.hvns
    }

    /// Where its frames come from.
    #[must_use]
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// The block of `order` around `page`, if it may be mapped with one leaf as far as the region is concerned.
    pub fn block(&self, page: Hvn, order: Order) -> Result<HvnRange, NotHuge> {
        if let Backing::Fixed { .. } = self.backing {
            return Err(NotHuge::Reserved);
        }
        let block = HvnRange::block(page, order).filter(|b| self.hvns.covers(b)).ok_or(NotHuge::Region)?;
        match self.huge {
            HugePolicy::Always => Ok(block),
            HugePolicy::Advise if self.advised(&block) => Ok(block),
            HugePolicy::Advise | HugePolicy::Never => Err(NotHuge::Policy),
        }
    }

    /// Advises large blocks for those of `range`; each block that has a page of it counts.
    pub fn advise(&self, range: &HvnRange) {
        let Some(part) = self.hvns.intersect(range) else { return };
        self.each_block(&part, |word, bit| {
            word.fetch_or(bit, Ordering::Relaxed);
            true
        });
    }

    fn advised(&self, range: &HvnRange) -> bool {
        self.each_block(range, |word, bit| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Calls `f` with the bit of each block that has a page of `range`, until it answers false. True if it never did.
    fn each_block(&self, range: &HvnRange, f: impl Fn(&AtomicU64, u64) -> bool) -> bool {
        let base = HUGE.align_down(self.hvns.start().0);
        let mut at = HUGE.align_down(range.start().0);
        while at < range.end().0 {
            let n = at.saturating_sub(base) >> HUGE.get();
            let word = usize::try_from(n / WORD).ok().and_then(|n| self.advice.get(n));
            if !word.is_some_and(|word| f(word, 1 << (n % WORD))) {
                return false;
            }
            at = at.saturating_add(HUGE.pages());
        }
        true
    }
}

/// The regions of one VM: sorted, apart from each other.
#[derive(Debug, Default)]
pub struct Regions(heapless::Vec<Region, MAX_REGIONS>);

/// Why a region was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionError {
    /// There are [`MAX_REGIONS`] already.
    TooMany,
    /// It has a page in common with another.
    Overlap,
}

impl Regions {
    /// Adds one.
    pub fn add(&mut self, region: Region) -> Result<(), RegionError> {
        if self.0.iter().any(|other| other.hvns.intersect(&region.hvns).is_some()) {
            return Err(RegionError::Overlap);
        }
        self.0.push(region).map_err(|_| RegionError::TooMany)?;
        self.0.sort_unstable_by_key(|region| region.hvns.start());
        Ok(())
    }

    /// The region of `page`.
    #[must_use]
    pub fn find(&self, page: Hvn) -> Option<&Region> {
        self.0.iter().find(|region| region.hvns.contains(page))
    }

    /// All of them, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.0.iter()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Backing, HUGE, HugePolicy, NotHuge, Region, RegionError, Regions};
    use crate::addr::{Hvn, HvnRange, Pfn};

    fn range(start: u64, pages: u64) -> HvnRange {
        HvnRange::new(Hvn(start), pages).unwrap()
    }

    fn region(start: u64, pages: u64, huge: HugePolicy) -> Region {
        Region::new(range(start, pages), Backing::Anon, huge).unwrap()
    }

    #[test]
    fn r11_a_block_lies_in_one_region_whole() {
        let r = region(100, 1024, HugePolicy::Always);
        assert_eq!(r.block(Hvn(100), HUGE), Err(NotHuge::Region));
        assert_eq!(r.block(Hvn(512), HUGE), Ok(range(512, 512)));
        assert_eq!(r.block(Hvn(1023), HUGE), Ok(range(512, 512)));
        assert_eq!(r.block(Hvn(1024), HUGE), Err(NotHuge::Region), "the region ends inside the block");
    }

    #[test]
    fn advice_is_for_whole_blocks_and_for_no_others() {
        let r = region(100, 1 << 20, HugePolicy::Advise);
        assert_eq!(r.block(Hvn(512), HUGE), Err(NotHuge::Policy));
        r.advise(&range(1000, 30));
        assert_eq!(r.block(Hvn(512), HUGE), Ok(range(512, 512)));
        assert_eq!(r.block(Hvn(1024), HUGE), Ok(range(1024, 512)));
        assert_eq!(r.block(Hvn(1536), HUGE), Err(NotHuge::Policy));
        r.advise(&range(0, u64::MAX));
        assert_eq!(r.block(Hvn(1 << 19), HUGE), Ok(range(1 << 19, 512)));
        let never = region(0, 1024, HugePolicy::Never);
        never.advise(&range(0, 1024));
        assert_eq!(never.block(Hvn(0), HUGE), Err(NotHuge::Policy));
    }

    #[test]
    fn i4_frames_of_others_are_never_huge() {
        let r = Region::new(range(0, 1024), Backing::Fixed { first: Pfn(512) }, HugePolicy::Always).unwrap();
        assert_eq!(r.block(Hvn(0), HUGE), Err(NotHuge::Reserved));
    }

    #[test]
    fn r17_regions_do_not_overlap() {
        let mut all = Regions::default();
        all.add(region(1000, 10, HugePolicy::Never)).unwrap();
        all.add(region(10, 10, HugePolicy::Never)).unwrap();
        assert_eq!(all.add(region(1009, 1, HugePolicy::Never)), Err(RegionError::Overlap));
        assert_eq!(all.iter().map(|r| r.hvns().start().0).collect::<Vec<_>>(), [10, 1000]);
        assert!(all.find(Hvn(20)).is_none() && all.find(Hvn(19)).is_some());
    }
}
