//! What memory a VM is to have, and where it lies in the guest's and in the host's addresses.

use alloc::sync::Arc;
use core::fmt;

use heapless::Vec;

use super::space::MemoryError;
use crate::addr::{Gfn, GfnRange, Hvn, HvnRange, Order, PAGE_SHIFT};
use crate::host::{Backing, HugePolicy, Region, Regions};
use crate::isa::Isa;
use crate::memslot::{MAX_SLOTS, Slot};
use crate::page::Store;
use crate::radix::format::Prot;
use crate::sync::SMALL;

/// Where RAM begins in the host space: not at 0, so that a gfn taken for a host page shows.
const RAM_BASE: Hvn = if SMALL { Hvn(0) } else { Hvn(1 << 32) };

/// A VM's memory.
pub struct MemoryConfig<I: Isa> {
    /// RAM from guest physical address 0, in bytes: a multiple of the page size, not 0.
    pub ram_bytes: u64,
    /// Guest frames that are not RAM. What of it does not fit below goes on behind them.
    pub hole: Option<GfnRange>,
    /// What the RAM is made of.
    pub backing: Backing<I>,
    /// When the RAM is mapped in large blocks.
    pub huge: HugePolicy,
    /// The RAM comes and goes in aligned runs of this size, each in frames side by side: what a guest that chooses the size of
    /// its translations may choose. More than a page only where [`Isa::GRANULES`], for anonymous memory, and with no window
    /// that is not made of such runs.
    pub granule: Order,
    /// Where pages of anonymous memory go when the machine's is short: nowhere if `None`.
    pub store: Option<Arc<dyn Store<I::Machine>>>,
    /// More memory, beside the RAM.
    pub windows: Vec<Window<I>, { MAX_SLOTS - 1 }>,
}

/// Memory beside the RAM.
#[derive(Debug)]
pub struct Window<I: Isa> {
    /// Where the guest sees it.
    pub gfns: GfnRange,
    /// By how many pages its place in the host space differs from that of RAM with the same addresses. With anything but
    /// a multiple of a large block the window cannot be mapped in such blocks.
    pub shift: u64,
    /// What the guest may do there.
    pub prot: Prot,
    /// What it is made of.
    pub backing: Backing<I>,
    /// When it is mapped in large blocks.
    pub huge: HugePolicy,
}

impl<I: Isa> From<u64> for MemoryConfig<I> {
    fn from(ram_bytes: u64) -> Self {
        Self {
            ram_bytes,
            hole: None,
            backing: Backing::Anon,
            huge: HugePolicy::default(),
            granule: Order::PAGE,
            store: None,
            windows: Vec::new(),
        }
    }
}

impl<I: Isa> fmt::Debug for MemoryConfig<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryConfig").field("ram_bytes", &self.ram_bytes).finish_non_exhaustive()
    }
}

impl<I: Isa> MemoryConfig<I> {
    /// The same, with pages going to `store` when memory is short.
    #[must_use]
    pub fn swap(self, store: Arc<dyn Store<I::Machine>>) -> Self {
        Self { store: Some(store), ..self }
    }

    /// The regions of the host space and the windows onto them.
    pub(super) fn lay_out(self) -> Result<(Regions<I>, Vec<Slot, MAX_SLOTS>), MemoryError> {
        let pages = self.ram_bytes >> PAGE_SHIFT;
        if pages << PAGE_SHIFT != self.ram_bytes {
            return Err(MemoryError::BadSize);
        }
        let (mut regions, mut slots) = (Regions::default(), Vec::new());
        if let Some(store) = self.store {
            regions.swap_to(store);
        }
        if self.granule > Order::PAGE && !I::GRANULES {
            return Err(MemoryError::Granule);
        }
        regions.come_in(self.granule);
        let granule = regions.granule();
        let mut add = |start, pages, backing, huge| {
            // Objects and devices give single pages.
            if granule > Order::PAGE && !matches!(backing, Backing::Anon) {
                return Err(MemoryError::Granule);
            }
            let hvns = HvnRange::new(start, pages).ok_or(MemoryError::BadSize)?;
            let region = Region::new(hvns, backing, huge).ok_or(MemoryError::NoMemory)?;
            regions.add(region).map_err(|_| MemoryError::BadSize)
        };
        let mut show = |gfns: GfnRange, start, prot| {
            let slot = Slot::new(gfns, start, prot).map_err(|_| MemoryError::BadSize)?;
            if !slot.is_aligned(granule) {
                return Err(MemoryError::Granule);
            }
            slots.push(slot).map_err(|_| MemoryError::BadSize)
        };
        // One region, whatever the guest sees of it where.
        let mut start = RAM_BASE;
        for gfns in pieces(pages, self.hole).into_iter().flatten() {
            show(gfns, start, Prot::all())?;
            start = start.checked_add(gfns.pages()).ok_or(MemoryError::BadSize)?;
        }
        add(RAM_BASE, pages, self.backing, self.huge)?;
        for window in self.windows {
            let start = RAM_BASE.checked_add(window.gfns.start().0).and_then(|at| at.checked_add(window.shift));
            let start = start.ok_or(MemoryError::BadSize)?;
            show(window.gfns, start, window.prot)?;
            add(start, window.gfns.pages(), window.backing, window.huge)?;
        }
        Ok((regions, slots))
    }
}

/// Where the guest sees its RAM of so many pages: below the hole and, if that is not all of it, from the hole's end on.
#[must_use]
pub fn pieces(ram: u64, hole: Option<GfnRange>) -> [Option<GfnRange>; 2] {
    let below = hole.map_or(ram, |hole| ram.min(hole.start().0));
    let above = hole.and_then(|hole| GfnRange::new(hole.end(), ram.saturating_sub(below)));
    [GfnRange::new(Gfn(0), below), above]
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::pieces;
    use crate::addr::{Gfn, GfnRange};
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn r17_ram_lies_around_the_hole_and_none_is_lost(ram in 1_u64..100, start in 0_u64..100, len in 1_u64..100) {
            let hole = GfnRange::new(Gfn(start), len).unwrap();
            let [below, above] = pieces(ram, Some(hole));
            let pages: u64 = [below, above].iter().flatten().map(GfnRange::pages).sum();
            prop_assert_eq!(pages, ram);
            prop_assert!([below, above].iter().flatten().all(|piece| piece.intersect(&hole).is_none()));
            prop_assert!(above.is_none() || below.map_or(0, |piece| piece.end().0) == start, "room left below");
            prop_assert_eq!(pieces(ram, None), [GfnRange::new(Gfn(0), ram), None]);
        }
    }
}
