//! Memory that comes and goes in runs: so many pages, aligned, in frames side by side, all of them there or none.
//!
//! Where a guest chooses the size of its translations, what it may choose has to be had of any page at any time. The size
//! of a run, the granule, is the VM's; the table's leaves are what they always are, so that a run is a row of small leaves,
//! or of huge ones, or a part of a larger leaf.
//!
//! ```text
//!   populate (host lock)                               others
//!     a zeroed block; what the store has of the run
//!       is brought into it
//!     leaves, from the last to the first               a walk at one of the later pages: is the run's first page a leaf?
//!                                                        no -> Retry (R3); yes -> all are, and lie side by side
//!     the store forgets them
//!   discard, swap out (host lock, bracket over         a commit section: refused by the bracket, which covers the run
//!     whole runs)                                      a walk elsewhere: finds leaves that go, as of any page (R2)
//!     leaves -> holes, kept pages
//! ```
//!
//! Everything that makes or takes a leaf of a run has the host lock, but the first touch of a huge block no smaller than
//! the granule, which is one leaf. The first page's leaf is put last, and the test of a walk rests on that: it acquires
//! that leaf, and with it those before.
//!
//! A run that the store has in part (pages of zeros are holes) has no leaf. To take away a part of a run that is there is
//! to zero that part where it is (`discard.rs`); the store takes runs whole or not at all (`swap.rs`); pages are copied
//! together to no less than a run (`collapse.rs`).
//!
//! Rules: R2, R3, R4, R11, R19, R24.

use super::populate::refused;
use super::space::{HostPage, HostSpace, Peek, Populate, page_of};
use super::{HUGE, HostFormat};
use crate::addr::{Hvn, HvnRange, Order, Pfn};
use crate::epoch::{Cpu, WalkGuard};
use crate::isa::Isa;
use crate::machine::Machine;
use crate::page::{GuestFrame, Token, Zeroed, zeroed};
use crate::radix::edit::EditError;
use crate::radix::format::{Leaf, Place, Prot, Pte, Rc};
use crate::sync::Ordering;

impl<I: Isa> HostSpace<I> {
    /// A page of a run, whose own leaf is smaller: as large as the run, if all of that is there.
    #[cold]
    pub(super) fn in_run(&self, m: &I::Machine, g: &WalkGuard<'_>, page: Hvn, now: HostPage) -> Peek {
        let order = self.granule();
        let first = page.align_down(order);
        match self.table.entry(m, g, first.0).map(|seen| (seen.pte, seen.order)) {
            // Frames of somewhere else: the pages were copied together since this one was looked at.
            Some((Pte::Leaf(leaf), size))
                if page_of(first, size, leaf).pfn.0.checked_add(page.0 - first.0) == Some(now.pfn.0) =>
            {
                Peek::Page(HostPage { order, ..now })
            }
            Some(_) | None => Peek::Retry,
        }
    }

    /// Makes sure that the run around `page` is there, all of it. The caller holds no guard, and no lock of the host's rank
    /// or a higher one.
    #[cold]
    #[inline(never)]
    pub(super) fn populate_run(&self, cpu: &Cpu, m: &I::Machine, page: Hvn) -> Populate {
        let Some(run) = HvnRange::block(page, self.granule()) else { return Populate::OutOfReach };
        // Before the lock: zeroing it takes longest.
        let Some(frame) = zeroed::take(cpu, m, self.granule()) else { return Populate::NoMemory };
        let _structure = self.lock(cpu);
        if let Peek::Page(_) = self.peek(m, &m.epoch().enter(cpu), run.start()) {
            // Another CPU was first.
            zeroed::give(cpu, m, frame);
            return Populate::Retry;
        }
        self.bring(cpu, m, &run, &frame);
        let (mut at, mut kept) = (run.end(), 0_u64);
        while at > run.start() {
            let (order, place) = match self.put_before(cpu, m, &run, at, frame.pfn()) {
                Ok(put) => put,
                Err(error) => {
                    // Where the first one went is a table for the others, and nobody else puts anything there.
                    debug_assert!(at == run.end(), "R4: somebody changes a run without the host lock");
                    m.frames().free(cpu, frame.into_frame());
                    return refused(error);
                }
            };
            self.counts.add(order, 1);
            at = Hvn(at.0.saturating_sub(order.pages()));
            if let Some(place) = place {
                self.regions.forget(cpu, m, Token::owned(place));
                kept = kept.saturating_add(1);
            }
        }
        self.counts.swapped.fetch_sub(kept, Ordering::Relaxed);
        self.counts.swapped_in.fetch_add(kept, Ordering::Relaxed);
        // The entries own the frames now.
        let found = page_of(page, self.granule(), whole(GuestFrame::from(frame).into_pfn()));
        if kept == 0 { Populate::Fresh(found) } else { Populate::Present(found) }
    }

    /// Writes what the store has of a run to a block, page for page. The caller holds the host lock.
    fn bring(&self, cpu: &Cpu, m: &I::Machine, run: &HvnRange, frame: &Zeroed) {
        let Some(store) = self.regions.store() else { return };
        let mut at = run.start();
        while at < run.end() {
            // The store is not called inside a guard.
            let seen = self.table.entry(m, &m.epoch().enter(cpu), at.0).map(|seen| (seen.pte, seen.order));
            let Some((pte, order)) = seen else { return };
            if let (Pte::Swapped(place), Some(n)) = (pte, at.since(run.start())) {
                let token = Token::owned(place);
                frame.with_page(n, |page| store.bring(cpu, m, &token, page));
                // It stays the entry's until the page is there.
                let _ = token.into_place();
            }
            at = Hvn(at.align_down(order).0.saturating_add(order.pages()));
        }
    }

    /// Puts the leaf of a run that ends at `end`, the run being in frames from `first`. Returns its size, and the place where
    /// the store has had the page. The caller holds the host lock.
    fn put_before(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        run: &HvnRange,
        end: Hvn,
        first: Pfn,
    ) -> Result<(Order, Option<Place>), EditError> {
        let (guard, last) = (m.epoch().enter(cpu), Hvn(end.0.saturating_sub(1)));
        let seen = self.table.entry(m, &guard, last.0).ok_or(EditError::Unfit)?;
        // A table of small entries is left where a kept page has made one.
        let order = if seen.order >= HUGE && run.pages() >= HUGE.pages() { HUGE } else { Order::PAGE };
        let at = last.align_down(order);
        let pfn = at.since(run.start()).and_then(|n| first.checked_add(n)).ok_or(EditError::Unfit)?;
        match seen.pte {
            Pte::Hole if seen.order > Order::PAGE => {
                self.table.map(m, &guard, at.0, order, whole(pfn))?;
                Ok((order, None))
            }
            Pte::Hole if seen.swap::<HostFormat>(Pte::Leaf(whole(pfn))) => Ok((order, None)),
            Pte::Swapped(place) if seen.swap::<HostFormat>(Pte::Leaf(whole(pfn))) => Ok((order, Some(place))),
            Pte::Hole | Pte::Swapped(_) | Pte::Leaf(_) | Pte::Table { .. } | Pte::Transition(_) => {
                Err(EditError::Retry)
            }
        }
    }
}

/// The leaf of frames from `pfn`.
fn whole(pfn: Pfn) -> Leaf {
    Leaf { pfn, prot: Prot::all(), rc: Rc::empty() }
}
