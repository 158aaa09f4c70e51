//! First touch: a hole becomes a page, or at once a whole block.
//!
//! ```text
//!   populate (any CPU, no lock)
//!     walk: a leaf -> that page
//!     walk: a hole where a huge leaf can stand, and the region wants one
//!       a block, zeroed; CAS hole -> leaf
//!       no such block -> a page, as below
//!     walk: a hole
//!       a frame, zeroed; CAS hole -> leaf
//!     lost the CAS -> give the frames back, walk again
//!
//!   against another first touch: the second CAS finds no hole. One that put a table there for a small page makes the
//!     block's `Occupied`; nobody has seen the block, it goes back.
//!   against split, collapse: Splitting and Frozen are no holes; Retry.
//!   against discard: it takes what it finds. The fault that brought the page is refused by the bracket if it resolved
//!     before, and a page that comes after it is new.
//! ```
//!
//! Pages of shared objects: [`super::shared`]. Pages that the store has: [`super::swap`].
//!
//! The frame is zeroed before it can be found (R19), and a lost race leaks none (R24).

use super::HUGE;
use super::region::{Backing, Region};
use super::space::{HostSpace, Peek, Populate, page_of};
use crate::addr::{Hvn, Order, Pfn};
use crate::epoch::Cpu;
use crate::isa::Isa;
use crate::machine::Machine;
use crate::page::{GuestFrame, zeroed};
use crate::radix::edit::EditError;
use crate::radix::format::{Leaf, Prot, Pte, Rc};

impl<I: Isa> HostSpace<I> {
    /// Makes sure that a page is there. Takes no lock; the caller holds no guard.
    pub fn populate(&self, cpu: &Cpu, m: &I::Machine, page: Hvn) -> Populate {
        let hole = {
            let guard = m.epoch().enter(cpu);
            let Some(seen) = self.table.entry(m, &guard, page.0) else { return Populate::OutOfReach };
            match seen.pte {
                Pte::Leaf(leaf) => return Populate::Present(page_of(page, seen.order, leaf)),
                Pte::Table { .. } | Pte::Transition(_) => return Populate::Retry,
                Pte::Swapped(place) => Err(place),
                Pte::Hole => Ok(seen.order),
            }
        };
        let hole = match hole {
            Ok(order) => order,
            Err(_) if self.granule() > Order::PAGE => return self.populate_run(cpu, m, page),
            Err(place) => return self.swap_in(cpu, m, page, place),
        };
        let Some(region) = self.regions.find(page) else { return Populate::OutOfReach };
        match region.backing() {
            Backing::Anon => self.populate_anon(cpu, m, region, page, hole),
            Backing::Shared { object, first } => self.populate_shared(cpu, m, region, (object, *first), page),
            Backing::Fixed { first } => self.populate_fixed(cpu, m, region, page, *first),
        }
    }

    #[inline]
    fn populate_anon(&self, cpu: &Cpu, m: &I::Machine, region: &Region<I>, page: Hvn, hole: Order) -> Populate {
        if hole >= HUGE
            && HUGE >= self.granule()
            && let Ok(block) = region.block(page, HUGE)
            && let Some(done) = self.give(cpu, m, block.start(), HUGE, page)
        {
            return done;
        }
        if self.granule() > Order::PAGE {
            return self.populate_run(cpu, m, page);
        }
        self.give(cpu, m, page, Order::PAGE, page).unwrap_or(Populate::NoMemory)
    }

    /// Maps a new block of `order` at `start`, for the sake of `page`. `None` if there is no block of that size.
    fn give(&self, cpu: &Cpu, m: &I::Machine, start: Hvn, order: Order, page: Hvn) -> Option<Populate> {
        // Zeroed before it can be found: the CAS below releases these stores.
        let frame = zeroed::take(cpu, m, order)?;
        let leaf = Leaf { pfn: frame.pfn(), prot: Prot::all(), rc: Rc::empty() };
        let done = self.table.map(m, &m.epoch().enter(cpu), start.0, order, leaf);
        Some(match done {
            Ok(()) => {
                self.counts.add(order, 1);
                Populate::Fresh(page_of(page, order, Leaf { pfn: GuestFrame::from(frame).into_pfn(), ..leaf }))
            }
            Err(error) => {
                zeroed::give(cpu, m, frame);
                refused(error)
            }
        })
    }

    fn populate_fixed(&self, cpu: &Cpu, m: &I::Machine, region: &Region<I>, page: Hvn, first: Pfn) -> Populate {
        let pfn = page.since(region.hvns().start()).and_then(|n| first.checked_add(n));
        let Some(pfn) = pfn else { return Populate::OutOfReach };
        let leaf = Leaf { pfn, prot: Prot::all(), rc: Rc::empty() };
        let guard = m.epoch().enter(cpu);
        match self.table.map(m, &guard, page.0, Order::PAGE, leaf) {
            // Mapping the same frame twice is no error, so this may have been another CPU's doing.
            Ok(()) => match self.peek(m, &guard, page) {
                Peek::Page(found) => Populate::Present(found),
                Peek::Absent | Peek::Swapped | Peek::Retry | Peek::OutOfReach => Populate::Retry,
            },
            Err(error) => refused(error),
        }
    }
}

pub(super) fn refused(error: EditError) -> Populate {
    match error {
        EditError::NoTable => Populate::NoMemory,
        // Occupied: another CPU populated the page first; its frame counts.
        EditError::Retry | EditError::Occupied | EditError::TableInWay | EditError::LeafInWay(_) => Populate::Retry,
        EditError::Unfit => Populate::OutOfReach,
    }
}
