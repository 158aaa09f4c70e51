//! Host leaves of shared objects: made, taken away, and put together.
//!
//! Everything here happens with the lock of the page's extent held, by which leaves of one page come and go one at a time
//! in all VMs that show it. The frames are the object's: nothing is copied, zeroed or freed here.
//!
//! ```text
//!   populate          extent lock; look again; the page, or all of the team, comes to life;
//!                     may_map_huge? hole -> large leaf : hole -> small leaf                        by CAS, no host lock
//!   collapse          extent lock; may_map_huge? host lock; bracket over the block; freeze;
//!                     every entry a hole or the team's own frame? large leaf in the table's place : thaw
//!   unmap             (extent lock: the caller's) host lock; no leaf, no bracket; bracket over every leaf concerned;
//!                     split at the edges, or where there is no table for that drop the leaf whole: it comes back by
//!                     the next touch, page by page; leaves -> holes
//! ```
//!
//! A team that is complete fills holes of a table as well: its pages live, though this VM has not touched them.

use super::collapse::{Collapsed, NotCollapsed};
use super::discard::Uncut;
use super::populate::refused;
use super::region::{Backing, NotHuge, Region};
use super::space::{HostSpace, Populate, page_of};
use super::{HUGE, Peek};
use crate::addr::{Hvn, HvnRange, Order, Pfn};
use crate::epoch::Cpu;
use crate::isa::Isa;
use crate::machine::Machine;
use crate::mmu::space::Space;
use crate::mmu::zap::invalidate;
use crate::page::extent::Held;
use crate::page::team::{Question, Standing, may_map_huge};
use crate::page::tmpfs::Tmpfs;
use crate::radix::edit::{EditError, Removed};
use crate::radix::format::{Leaf, Prot, Pte, Rc, TableRef};

/// The object behind a region, and the place of the region's first page in it.
pub(super) type Object<'a, I> = (&'a Tmpfs<I>, u64);

fn leaf(pfn: Pfn) -> Leaf {
    Leaf { pfn, prot: Prot::all(), rc: Rc::empty() }
}

fn index_of<I: Isa>(region: &Region<I>, first: u64, page: Hvn) -> Option<u64> {
    first.checked_add(page.since(region.hvns().start())?)
}

/// True if the host table has a leaf there.
pub(crate) fn present<I: Isa>(cpu: &Cpu, m: &I::Machine, host: &HostSpace<I>, page: Hvn) -> bool {
    matches!(host.peek(m, &m.epoch().enter(cpu), page), Peek::Page(_))
}

impl<I: Isa> HostSpace<I> {
    /// True if `page`, which this table has no leaf for, reads as zeros because it is nowhere else either. The caller holds
    /// no guard.
    pub(crate) fn is_zero(&self, cpu: &Cpu, m: &I::Machine, page: Hvn) -> bool {
        let Some(region) = self.regions.find(page) else { return false };
        match region.backing() {
            Backing::Anon => true,
            Backing::Fixed { .. } => false,
            Backing::Shared { object, first } => {
                let held = index_of(region, *first, page).and_then(|index| object.hold(cpu, index));
                held.is_some_and(|(extent, n)| !extent.exists(cpu, m, n))
            }
        }
    }

    /// Makes sure that a page of a shared region is there.
    pub(super) fn populate_shared(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        region: &Region<I>,
        (object, first): Object<'_, I>,
        page: Hvn,
    ) -> Populate {
        let Some(index) = index_of(region, first, page) else { return Populate::OutOfReach };
        let Some((mut extent, n)) = object.hold(cpu, index) else { return Populate::OutOfReach };
        // Now nobody else makes or takes a leaf of this page.
        let hole = {
            let guard = m.epoch().enter(cpu);
            let Some(seen) = self.table.entry(m, &guard, page.0) else { return Populate::OutOfReach };
            match seen.pte {
                Pte::Leaf(leaf) => return Populate::Present(page_of(page, seen.order, leaf)),
                // An object keeps its own account of what the store has.
                Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => return Populate::Retry,
                Pte::Hole => seen.order,
            }
        };
        let ask = |extent: &Held<'_>| {
            let (region, usage) = (region.block(page, HUGE), extent.usage());
            may_map_huge(&Question { page, index, usage, region, standing: Standing::Small })
        };
        if hole >= HUGE && matches!(ask(&extent), Err(NotHuge::NoTeam | NotHuge::Incomplete)) {
            object.complete(cpu, m, &mut extent);
        }
        let Some(pfn) = object.touch(cpu, m, &mut extent, n) else { return Populate::NoMemory };
        if hole >= HUGE
            && let (Ok(block), Some(head)) = (ask(&extent), extent.head())
        {
            match self.table.map(m, &m.epoch().enter(cpu), block.start().0, HUGE, leaf(head)) {
                Ok(()) => {
                    self.counts.add(HUGE, 1);
                    extent.huge_mapping(1);
                    return Populate::Present(page_of(page, HUGE, leaf(head)));
                }
                // A table stands there: an empty one, or small leaves of the block.
                Err(EditError::Occupied) => {}
                Err(error) => return refused(error),
            }
        }
        match self.table.map(m, &m.epoch().enter(cpu), page.0, Order::PAGE, leaf(pfn)) {
            Ok(()) => {
                self.counts.add(Order::PAGE, 1);
                Populate::Present(page_of(page, Order::PAGE, leaf(pfn)))
            }
            Err(error) => refused(error),
        }
    }
}

/// Maps a complete team with one leaf where its pages are mapped one by one.
pub(super) fn collapse<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    region: &Region<I>,
    (object, first): Object<'_, I>,
    page: Hvn,
) -> Result<Collapsed, NotCollapsed> {
    let host = &space.host;
    let index = index_of(region, first, page).ok_or(NotHuge::Region)?;
    let ask = |usage| {
        let standing = match host.peek(m, &m.epoch().enter(cpu), page) {
            Peek::Page(found) if found.order >= HUGE => Standing::Huge,
            Peek::Page(_) | Peek::Absent | Peek::Swapped | Peek::Retry | Peek::OutOfReach => Standing::Small,
        };
        may_map_huge(&Question { page, index, usage, region: region.block(page, HUGE), standing })
    };
    // Most blocks that a scan looks at cost no lock.
    ask(object.usage(index))?;
    let (extent, _) = object.hold(cpu, index).ok_or(NotHuge::NoTeam)?;
    let block = ask(extent.usage())?;
    let head = extent.head().ok_or(NotHuge::NoTeam)?;
    let _structure = host.lock(cpu);
    if !host.table.survey(m, &m.epoch().enter(cpu), block.start().0, HUGE, |_, _| {}) {
        // Nothing of it is mapped here; the first touch will do it.
        return Err(NotCollapsed::Sparse);
    }
    invalidate(cpu, m, space, block, |bracket| {
        let frozen = host.freeze(cpu, m, bracket.range().start(), HUGE)?;
        let own = |(n, entry)| match entry {
            Pte::Hole => true,
            Pte::Leaf(leaf) => leaf.pfn == Pfn(head.0 | n as u64),
            Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => false,
        };
        if !frozen.entries().enumerate().all(own) {
            host.thaw(cpu, m, frozen);
            return Err(NotHuge::NotHead.into());
        }
        host.put(cpu, m, frozen, leaf(head)).map(|_| Collapsed::InPlace)
    })?;
    extent.huge_mapping(1);
    Ok(Collapsed::InPlace)
}

/// Takes the leaves of `range` away, which the extent's lock keeps from coming back. Returns how many large ones went.
pub(crate) fn unmap<I: Isa>(cpu: &Cpu, m: &I::Machine, space: &Space<I>, range: HvnRange) -> u64 {
    let host = &space.host;
    let _structure = host.lock(cpu);
    let mut any = false;
    host.table.leaves(m, &m.epoch().enter(cpu), range.start().0, range.end().0, |_, _, _| any = true);
    if !any {
        // No leaf, no translation: whoever committed one read its leaf in the same section.
        return 0;
    }
    let reach = host.reach(cpu, m, range);
    let mut large = 0_u64;
    host.table.leaves(m, &m.epoch().enter(cpu), range.start().0, range.end().0, |_, order, _| {
        large = large.saturating_add(u64::from(order >= HUGE));
    });
    invalidate(cpu, m, space, reach, |bracket| {
        for edge in [range.start(), range.end()] {
            // A leaf for which there is no table goes whole.
            let _: Result<(), Uncut> = host.cut(cpu, m, bracket, edge);
        }
        let mut dropped = Dropped::default();
        host.table.unmap(m, &m.epoch().enter(cpu), range.start().0, range.end().0, &mut dropped);
        host.counts.sub(Order::PAGE, dropped.small);
        host.counts.sub(HUGE, dropped.large);
        host.prune_all(cpu, m, bracket);
    });
    large
}

/// Leaves that are only counted: their frames are the object's.
#[derive(Debug, Default)]
struct Dropped {
    small: u64,
    large: u64,
}

impl Removed for Dropped {
    fn room(&self) -> bool {
        true
    }
    fn leaf(&mut self, _key: u64, order: Order, _leaf: Leaf) {
        let counter = if order >= HUGE { &mut self.large } else { &mut self.small };
        *counter = counter.saturating_add(1);
    }
    fn table(&mut self, _table: TableRef) {
        debug_assert!(false, "taking leaves away unlinks no table");
    }
}
