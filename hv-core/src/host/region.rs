//! What a VM's host space is made of: a few ranges, fixed when the VM is built.
//!
//! A region says where its frames come from and when they are mapped in large blocks. Nothing here changes while the VM
//! lives but the advice, one bit a block, which anybody may give at any time.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::HUGE;
use crate::addr::{Hvn, HvnRange, Order, Pfn};
use crate::epoch::Cpu;
use crate::heap::{self, Counted};
use crate::isa::Isa;
use crate::page::tmpfs::Tmpfs;
use crate::page::{Store, Token};
use crate::sync::{AtomicU64, Ordering};

/// The most regions of one VM.
pub const MAX_REGIONS: usize = 8;
const WORD: u64 = u64::BITS as u64;

/// Where a region's frames come from.
pub enum Backing<I: Isa> {
    /// The allocator, zeroed at the first touch; the VM's alone.
    Anon,
    /// An object that other VMs may map as well.
    Shared {
        /// The object.
        object: Counted<Tmpfs<I>>,
        /// The object's page behind the region's first.
        first: u64,
    },
    /// Frames that the allocator does not own, in order from this one: a device's, firmware's. They are never freed and
    /// never mapped in large blocks (exhibit I4).
    Fixed {
        /// The frame of the region's first page.
        first: Pfn,
    },
}

impl<I: Isa> Clone for Backing<I> {
    fn clone(&self) -> Self {
        match self {
            Self::Anon => Self::Anon,
            Self::Shared { object, first } => Self::Shared { object: Counted::clone(object), first: *first },
            Self::Fixed { first } => Self::Fixed { first: *first },
        }
    }
}

impl<I: Isa> fmt::Debug for Backing<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anon => f.write_str("Anon"),
            Self::Shared { object, first } => write!(f, "Shared {{ {object:?}, first: {first} }}"),
            Self::Fixed { first } => write!(f, "Fixed {{ {first:?} }}"),
        }
    }
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
    /// The block does not begin where the object's extent does.
    Askew,
    /// The object has no team there, or none any more.
    NoTeam,
    /// Not all of the team's pages live yet.
    Incomplete,
    /// Swapping has the team, or pages of the block.
    Swapped,
    /// A frame is mapped there that is not the team's.
    NotHead,
}

/// A range of the host space.
#[derive(Debug)]
pub struct Region<I: Isa> {
    hvns: HvnRange,
    backing: Backing<I>,
    huge: HugePolicy,
    advice: Advice,
}

impl<I: Isa> Region<I> {
    /// A region; `None` if there is no heap for its advice.
    #[must_use]
    pub fn new(hvns: HvnRange, backing: Backing<I>, huge: HugePolicy) -> Option<Self> {
        let advice = if huge == HugePolicy::Advise { Advice::new(&hvns)? } else { Advice::none() };
        Some(Self { hvns, backing, huge, advice })
    }

    /// Its pages.
    #[must_use]
    pub fn hvns(&self) -> HvnRange {
        self.hvns
    }

    /// Where its frames come from.
    #[must_use]
    pub fn backing(&self) -> &Backing<I> {
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
            HugePolicy::Advise if self.advice.covers(&block) => Ok(block),
            HugePolicy::Advise | HugePolicy::Never => Err(NotHuge::Policy),
        }
    }

    /// Advises large blocks for those of `range`; each block that has a page of it counts.
    pub fn advise(&self, range: &HvnRange) {
        if let Some(part) = self.hvns.intersect(range) {
            self.advice.give(&part);
        }
    }
}

/// One bit a block.
#[derive(Debug)]
struct Advice {
    /// The first page of block 0.
    base: u64,
    bits: Vec<AtomicU64>,
}

impl Advice {
    /// None yet for the blocks that have a page of `hvns`; `None` if there is no heap for them.
    fn new(hvns: &HvnRange) -> Option<Self> {
        let base = HUGE.align_down(hvns.start().0);
        let blocks = hvns.end().0.checked_sub(base)?.div_ceil(HUGE.pages());
        let words = usize::try_from(blocks.div_ceil(WORD)).ok()?;
        Some(Self { base, bits: heap::list(words, |_| Some(AtomicU64::new(0)))? })
    }

    /// Where nobody may give any.
    fn none() -> Self {
        Self { base: 0, bits: Vec::new() }
    }

    fn give(&self, range: &HvnRange) {
        self.each(range, |word, bit| {
            word.fetch_or(bit, Ordering::Relaxed);
            true
        });
    }

    /// True if every block that has a page of `range` is advised.
    fn covers(&self, range: &HvnRange) -> bool {
        self.each(range, |word, bit| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Calls `f` with the bit of each block that has a page of `range`, until it answers false. True if it never did.
    fn each(&self, range: &HvnRange, f: impl Fn(&AtomicU64, u64) -> bool) -> bool {
        let mut at = HUGE.align_down(range.start().0);
        while at < range.end().0 {
            let n = at.saturating_sub(self.base) / HUGE.pages();
            let word = usize::try_from(n / WORD).ok().and_then(|n| self.bits.get(n));
            if !word.is_some_and(|word| f(word, 1 << (n % WORD))) {
                return false;
            }
            at = at.saturating_add(HUGE.pages());
        }
        true
    }
}

/// The regions of one VM: sorted, apart from each other.
pub struct Regions<I: Isa> {
    list: heapless::Vec<Region<I>, MAX_REGIONS>,
    granule: Order,
    store: Option<Arc<dyn Store<I::Machine>>>,
}

impl<I: Isa> fmt::Debug for Regions<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list.iter().map(|region| region.hvns)).finish()
    }
}

impl<I: Isa> Default for Regions<I> {
    fn default() -> Self {
        Self { list: heapless::Vec::new(), granule: Order::PAGE, store: None }
    }
}

/// Why a region was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionError {
    /// There are [`MAX_REGIONS`] already.
    TooMany,
    /// It has a page in common with another.
    Overlap,
}

impl<I: Isa> Regions<I> {
    /// Where pages of anonymous regions go when memory is short; nowhere if this is not said.
    pub fn swap_to(&mut self, store: Arc<dyn Store<I::Machine>>) {
        self.store = Some(store);
    }

    /// Says that pages come and go in aligned runs of this size ([`super::run`]), which only some machines' do.
    pub(crate) fn come_in(&mut self, granule: Order) {
        self.granule = granule;
    }

    /// The size of those runs: by type a page where no VM has larger ones, so that nobody looks.
    #[inline(always)]
    pub(crate) fn granule(&self) -> Order {
        if I::GRANULES { self.granule } else { Order::PAGE }
    }

    /// Has the store keep a page no longer.
    pub(super) fn forget(&self, cpu: &Cpu, m: &I::Machine, token: Token) {
        match &self.store {
            Some(store) => store.forget(cpu, m, token),
            None => debug_assert!(false, "a kept page without a store: {:?}", token.into_place()),
        }
    }

    /// The same, for who takes pages there and back.
    pub(super) fn store(&self) -> Option<&dyn Store<I::Machine>> {
        self.store.as_deref()
    }

    /// Adds one.
    pub fn add(&mut self, region: Region<I>) -> Result<(), RegionError> {
        if self.list.iter().any(|other| other.hvns.intersect(&region.hvns).is_some()) {
            return Err(RegionError::Overlap);
        }
        self.list.push(region).map_err(|_| RegionError::TooMany)?;
        self.list.sort_unstable_by_key(|region| region.hvns.start());
        Ok(())
    }

    /// The region of `page`.
    #[inline]
    #[must_use]
    pub fn find(&self, page: Hvn) -> Option<&Region<I>> {
        self.list.iter().find(|region| region.hvns.contains(page))
    }

    /// Those that are backed by objects: the object, the pages, and the object's page behind the first.
    pub fn shared(&self) -> impl Iterator<Item = (&Counted<Tmpfs<I>>, HvnRange, u64)> {
        self.list.iter().filter_map(|region| match &region.backing {
            Backing::Shared { object, first } => Some((object, region.hvns, *first)),
            Backing::Anon | Backing::Fixed { .. } => None,
        })
    }

    /// All of them, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &Region<I>> {
        self.list.iter()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::Advice;
    use crate::addr::{Hvn, HvnRange};

    fn range(start: u64, pages: u64) -> HvnRange {
        HvnRange::new(Hvn(start), pages).unwrap()
    }

    #[test]
    fn advice_is_for_whole_blocks_and_for_no_others() {
        let advice = Advice::new(&range(100, 1 << 20)).unwrap();
        assert!(!advice.covers(&range(512, 512)));
        advice.give(&range(1000, 30));
        assert!(advice.covers(&range(512, 512)) && advice.covers(&range(1024, 512)));
        assert!(!advice.covers(&range(1536, 512)) && !advice.covers(&range(0, 512)));
        advice.give(&range(100, 1 << 20));
        assert!(
            advice.covers(&range(0, (1 << 20) + 512)),
            "the last block, of which only a part is there, was forgotten"
        );
        assert!(!advice.covers(&range(1 << 21, 512)), "advice beyond the end");
        let none = Advice::none();
        none.give(&range(0, 512));
        assert!(!none.covers(&range(0, 512)));
    }
}
