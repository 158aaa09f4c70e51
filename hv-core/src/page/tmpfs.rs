//! Objects of memory that VMs share: what is written through one VM's window is read through another's.
//!
//! An object is a row of extents ([`super::extent`]); VMs map it, or parts of it, as regions of their host spaces. Each
//! VM's host table has leaves of its own, large in one and small in another, all of the same frames. The object owns the
//! frames; a host table that maps them frees none.
//!
//! Locks, in this order: an extent (rank Team), the list of mappers (rank Mappers), then one mapper's host table and mmu.
//!
//! ```text
//!   first touch                      punch hole, truncation, discard by any VM
//!   extent lock                      extent lock
//!     the page comes to life           mark: a team is none any more
//!     host leaf, small or large        mappers lock; each mapper that has a leaf of the pages:
//!   unlock                               host lock; bracket over the whole leaf; split; leaves -> holes
//!   commit section                     grace; the pages are free
//!                                    unlock
//!   A leaf is made under the extent's lock, so the punch meets it, or the touch comes after and finds the page gone. A
//!   fault that resolved before meets the mapper's bracket, or the sequence, in its commit section (R6).
//!
//!   a VM ends                        punch hole
//!   its leaves go, extent by extent  mappers lock: the VM is in the list, its Space lives
//!   mappers lock: off the list         its bracket opens and closes
//!   its Space is taken apart         unlock
//!   Whoever holds the mappers lock may use every Space in the list, and only then (R20, exhibit I6, I10).
//! ```
//!
//! Shrinking takes what never lived, of teams that are not complete: no leaf of it was ever made. Swapping lets the extent
//! go between its two steps: [`super::breaking`] says why that is safe.
//! Rules: R6, R12, R13, R18 (each mapper is found by what it registered), R20, R24.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::Store;
use super::breaking::Breaking;
use super::extent::{Extent, Grow, Held};
use super::team::{Bits, Usage};
use crate::addr::{HvnRange, Pfn};
use crate::epoch::Cpu;
use crate::heap::{self, Counted};
use crate::host::{HUGE, shared};
use crate::isa::Isa;
use crate::mmu::space::Space;
use crate::sync::{AtomicU64, Ordering, Rank, Ranked};

/// A shared object.
pub struct Tmpfs<I: Isa> {
    pages: AtomicU64,
    grow: Grow,
    pub(super) store: Option<Arc<dyn Store<I::Machine>>>,
    pub(super) extents: Vec<Extent>,
    pub(super) mappers: Ranked<Vec<Mapper<I>>>,
    /// The extent that the next reclaim looks at first, counted on and on. Written by reclaimers, of which there is one.
    pub(super) hand: AtomicU64,
}

/// A region of a VM that shows a part of the object.
pub(super) struct Mapper<I: Isa> {
    pub(super) space: Counted<Space<I>>,
    hvns: HvnRange,
    /// The object's page behind the first of them.
    first: u64,
}

/// Why an object cannot be mapped there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapRefused {
    /// The region reaches beyond the object.
    TooSmall,
    /// No heap for the list.
    NoMemory,
}

/// What an object amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TmpfsStats {
    /// Its size in pages.
    pub pages: u64,
    /// Pages that have frames.
    pub resident: u64,
    /// Frames that hold its own tables.
    pub tables: u64,
    /// Teams that are still growing.
    pub building: u64,
    /// Complete teams.
    pub complete: u64,
    /// Host leaves, of all VMs, that map a complete team whole.
    pub huge_mappings: u64,
    /// Extents whose team was broken, or that never were one.
    pub broken: u64,
}

impl<I: Isa> Mapper<I> {
    /// Where the VM shows the object's pages `from..to`, as far as it does.
    pub(super) fn hvns_of(&self, from: u64, to: u64) -> Option<HvnRange> {
        let from = from.max(self.first).checked_sub(self.first)?;
        let to = to.checked_sub(self.first)?.min(self.hvns.pages());
        HvnRange::new(self.hvns.start().checked_add(from)?, to.checked_sub(from)?)
    }
}

impl<I: Isa> Tmpfs<I> {
    /// An empty object of so many pages, which grows in teams and is never swapped. `None` if there is no heap for it.
    #[must_use]
    pub fn new(pages: u64) -> Option<Counted<Self>> {
        Self::with(pages, Grow::Teams, None)
    }

    /// An empty object that grows, and is swapped, as told.
    #[must_use]
    pub fn with(pages: u64, grow: Grow, store: Option<Arc<dyn Store<I::Machine>>>) -> Option<Counted<Self>> {
        let count = usize::try_from(pages.div_ceil(HUGE.pages())).ok()?;
        let extents = heap::list(count, |_| Some(Extent::new()))?;
        let mappers = Ranked::new(Rank::Mappers, Vec::new());
        let (pages, hand) = (AtomicU64::new(pages), AtomicU64::new(0));
        Counted::new(Self { pages, grow, store, extents, mappers, hand }).ok()
    }

    /// Its size in pages.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Acquire)
    }

    /// Enters a VM's region into the list of mappers. Before the VM's first fault.
    pub(crate) fn register(
        &self,
        cpu: &Cpu,
        space: &Counted<Space<I>>,
        hvns: HvnRange,
        first: u64,
    ) -> Result<(), MapRefused> {
        if first.checked_add(hvns.pages()).is_none_or(|end| end > self.pages()) {
            return Err(MapRefused::TooSmall);
        }
        let mut mappers = self.mappers.lock(cpu);
        mappers.try_reserve(1).map_err(|_| MapRefused::NoMemory)?;
        mappers.push(Mapper { space: Counted::clone(space), hvns, first });
        Ok(())
    }

    /// Takes a VM off the list; it runs no more. Its leaves of the object go first, so that a frame which is freed
    /// afterwards is named by nothing of it. On return nobody uses its Space on the object's account.
    pub(crate) fn unregister(&self, cpu: &Cpu, m: &I::Machine, space: &Counted<Space<I>>) {
        for (n, extent) in self.extents.iter().enumerate() {
            let base = (n as u64).saturating_mul(HUGE.pages());
            let held = extent.lock(cpu);
            let gone =
                self.unmap(cpu, m, base, base.saturating_add(HUGE.pages()), |mapper| Counted::ptr_eq(mapper, space));
            held.huge_mapping(0_i64.saturating_sub_unsigned(gone));
        }
        self.mappers.lock(cpu).retain(|mapper| !Counted::ptr_eq(&mapper.space, space));
    }

    /// The extent of page `index`, locked, and the page's place in it; `None` beyond the object's end.
    pub(crate) fn hold<'a>(&'a self, cpu: &'a Cpu, index: u64) -> Option<(Held<'a>, u64)> {
        let n = index % HUGE.pages();
        let extent = self.extents.get(usize::try_from(index / HUGE.pages()).ok()?)?;
        let held = extent.lock(cpu);
        // Under the lock: a truncation lowers the size before it takes this lock.
        (index < self.pages()).then_some((held, n))
    }

    /// What the extent of page `index` was a moment ago.
    pub(crate) fn usage(&self, index: u64) -> Usage {
        let extent = usize::try_from(index / HUGE.pages()).ok().and_then(|n| self.extents.get(n));
        extent.map_or(Usage::Empty, Extent::usage)
    }

    /// Brings a page of an extent to life.
    pub(crate) fn touch(&self, cpu: &Cpu, m: &I::Machine, extent: &mut Held<'_>, n: u64) -> Option<Pfn> {
        extent.touch(cpu, m, n, self.grow, self.store.as_deref()).ok()
    }

    /// Brings all pages of an extent's team to life.
    pub(crate) fn complete(&self, cpu: &Cpu, m: &I::Machine, extent: &mut Held<'_>) {
        extent.complete(cpu, m, self.grow);
    }

    /// Gives the pages `from..to` back; they read as zeros afterwards, through every VM. Returns how many frames that
    /// freed. The caller holds no lock and no guard.
    pub fn punch(&self, cpu: &Cpu, m: &I::Machine, from: u64, to: u64) -> u64 {
        let mut freed = 0_u64;
        self.each_extent(from, to, |extent, base| {
            let pages = Bits::range(from.saturating_sub(base), to.saturating_sub(base));
            let marked = Breaking::mark_first(cpu, m, extent.lock(cpu), pages);
            let mut over = marked.then_invalidate(|first, last| {
                self.unmap(cpu, m, base.saturating_add(first), base.saturating_add(last), |_| true);
            });
            over.forget(cpu, m, self.store.as_deref());
            freed = freed.saturating_add(over.free(cpu, m));
        });
        freed
    }

    /// Makes the object smaller. What lies beyond its new end is gone, and no VM finds memory there any more.
    pub fn truncate(&self, cpu: &Cpu, m: &I::Machine, pages: u64) -> u64 {
        let before = self.pages.fetch_min(pages, Ordering::AcqRel);
        self.punch(cpu, m, pages, before)
    }

    /// Gives back what growing teams keep ready but nobody has touched, until `wanted` frames are free. Complete teams
    /// are never picked, and no page moves. Returns how many frames that freed.
    pub fn shrink(&self, cpu: &Cpu, m: &I::Machine, wanted: u64) -> u64 {
        let mut freed = 0_u64;
        self.each_extent(0, self.pages(), |extent, _| {
            if freed < wanted && matches!(extent.usage(), Usage::Building(_)) {
                let held = extent.lock(cpu);
                // Looked at again: it may have become complete.
                if matches!(held.usage(), Usage::Building(_)) {
                    // No page that lives goes, so there is nothing to invalidate.
                    let over = Breaking::mark_first(cpu, m, held, Bits::default()).then_invalidate(|_, _| {});
                    freed = freed.saturating_add(over.free(cpu, m));
                }
            }
        });
        freed
    }

    /// What it amounts to just now.
    pub fn stats(&self, cpu: &Cpu, m: &I::Machine) -> TmpfsStats {
        let mut all = TmpfsStats { pages: self.pages(), ..TmpfsStats::default() };
        self.each_extent(0, self.pages(), |extent, _| {
            let held = extent.lock(cpu);
            all.resident = all.resident.saturating_add(held.there(cpu, m).count());
            all.tables = all.tables.saturating_add(held.tables());
            let counter = match held.usage() {
                Usage::Empty => return,
                Usage::Building(_) => &mut all.building,
                Usage::Complete { huge_mappings } => {
                    all.huge_mappings = all.huge_mappings.saturating_add(huge_mappings);
                    &mut all.complete
                }
                Usage::Swap(_) | Usage::Broken => &mut all.broken,
            };
            *counter = counter.saturating_add(1);
        });
        all
    }

    /// Frees everything, once no VM maps it and nobody else has a handle on it; otherwise the handle comes back.
    pub fn close(this: Counted<Self>, cpu: &Cpu, m: &I::Machine) -> Result<(), Counted<Self>> {
        if !this.mappers.lock(cpu).is_empty() || Counted::handles(&this) != 1 {
            return Err(this);
        }
        this.punch(cpu, m, 0, this.pages());
        Ok(())
    }

    /// Takes the leaves of the pages `from..to` out of the host tables of mappers that `of` names. Returns how many large
    /// leaves went.
    pub(super) fn unmap(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        from: u64,
        to: u64,
        of: impl Fn(&Counted<Space<I>>) -> bool,
    ) -> u64 {
        let mappers = self.mappers.lock(cpu);
        let shown = mappers.iter().filter(|mapper| of(&mapper.space));
        let ranges = shown.filter_map(|mapper| Some((mapper, mapper.hvns_of(from, to)?)));
        ranges.fold(0, |gone, (mapper, hvns)| gone.saturating_add(shared::unmap(cpu, m, &mapper.space, hvns)))
    }

    /// Calls `f` with each extent that has a page of `from..to`, and the index of its first page.
    fn each_extent(&self, from: u64, to: u64, mut f: impl FnMut(&Extent, u64)) {
        let mut base = HUGE.align_down(from);
        while base < to {
            let extent = usize::try_from(base / HUGE.pages()).ok().and_then(|n| self.extents.get(n));
            let Some(extent) = extent else { return };
            f(extent, base);
            base = base.saturating_add(HUGE.pages());
        }
    }
}

impl<I: Isa> fmt::Debug for Tmpfs<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tmpfs").field("pages", &self.pages).field("grow", &self.grow).finish_non_exhaustive()
    }
}
