//! A VM's own pages go to a store, and come back.
//!
//! ```text
//!   swap out (a reclaimer)                             others
//!   host lock
//!     invalidate(every leaf concerned)                 from here on no translation, no cached frame (R8, R23)
//!       a large leaf is split: its other pages stay
//!       each victim: CAS leaf -> Busy                  a fault, a read, a write: Retry
//!     end of the bracket                               a fault that resolved the leaf: bracket or sequence (R6)
//!     grace                                            a software writer that found the frame is over (R2, R16)
//!     each victim, alone with its frame:
//!       the store keeps it
//!       CAS Busy -> Swapped; or -> hole, of zeros;     a fault, a read: brings it back, also while the others are kept
//!         or -> the same leaf, if there is no room
//!       the frame is free                              nobody knows it: translations, caches and walks are gone
//!
//!   swap in (populate; any CPU, no lock)               others
//!     a frame, zeroed: without one nothing has been claimed
//!     CAS Swapped -> Arriving: the token is ours       another swap-in: Retry
//!     the store brings it                              discard: CAS Arriving -> hole
//!     CAS Arriving -> leaf; or it is gone:             a fault, a read: the leaf, with all its bytes (R19)
//!       the frame goes back, nobody has seen it
//!     the store forgets it
//! ```
//!
//! Where memory comes in runs (`run.rs`) a victim is a run: if the store will not take one of its pages, those that it has
//! taken are forgotten, and all leaves are put back, in the frames that they never left. What it takes comes back together,
//! under the host lock.
//!
//! Kept before the grace period, a store made through the old frame is lost (G2). Brought before the claim, two CPUs bring
//! one page; the second finds at its place what the store has put there since. Both forms of that are found by the mark's
//! having the place in it: as long as a page is arriving the place cannot be used again, so an entry that says Arriving from
//! there is ours, even if table and page were taken away and made anew meanwhile. A discard therefore waits for nobody.
//!
//! Rules: R2, R4, R6, R19, R23, R24; a failure at any step leaves the page where it was.

use heapless::Vec;

use super::HUGE;
use super::discard::Uncut;
use super::format::{HostFormat, REFUSED};
use super::space::{HostSpace, Populate, page_of};
use crate::addr::{Hvn, HvnRange, Order, Pfn};
use crate::epoch::Cpu;
use crate::isa::Isa;
use crate::machine::Machine;
use crate::mmu::space::Space;
use crate::mmu::zap::{Bracket, invalidate};
use crate::page::{GuestFrame, Kept, NotKept, Store, Token, zeroed};
use crate::radix::Split;
use crate::radix::edit::EditError;
use crate::radix::format::{Leaf, Place, Prot, Pte, Rc, Transition};
use crate::sync::{Ordering, spin_loop};

/// Pages that one bracket takes out.
pub(super) const AT_ONCE: usize = 64;

/// What became of victims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// Their frames are free.
    pub freed: u64,
    /// The store would not take them, or there was no table to split their leaf with.
    pub refused: u64,
}

/// Gives these pages of an anonymous region to the store, as far as they are there: at most [`AT_ONCE`], in rising order.
/// Where memory comes in runs they are the first pages of runs, which go whole or not at all.
pub(super) fn swap_out<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    store: &dyn Store<I::Machine>,
    victims: &[Hvn],
) -> Gone {
    let (host, mut gone) = (&space.host, Gone::default());
    let run = host.granule();
    let _structure = host.lock(cpu);
    let hull = victims.first().zip(victims.last()).and_then(|(first, last)| {
        let pages = last.since(*first)?.checked_add(run.pages())?;
        HvnRange::new(*first, pages)
    });
    let Some(range) = hull else { return gone };
    let mut out: Vec<(Hvn, Leaf), AT_ONCE> = Vec::new();
    invalidate(cpu, m, space, host.reach(cpu, m, range), |bracket| {
        for page in victims {
            match host.take_out(cpu, m, bracket, *page) {
                Ok(Some(leaf)) => _ = out.push((*page, leaf)),
                // Not there any more.
                Ok(None) => {}
                Err(Uncut(_)) => gone.refused = gone.refused.saturating_add(run.pages()),
            }
        }
    });
    if out.is_empty() {
        return gone;
    }
    let grace = m.epoch().synchronize(cpu);
    for (page, leaf) in out {
        let counter = if host.keep(cpu, m, store, page, leaf) {
            host.counts.sub(Order::PAGE, run.pages());
            host.counts.swapped_out.fetch_add(run.pages(), Ordering::Relaxed);
            m.frames().free_guest(cpu, grace.retire(GuestFrame::owned(leaf.pfn, run)));
            &mut gone.freed
        } else {
            &mut gone.refused
        };
        *counter = counter.saturating_add(run.pages());
    }
    gone
}

impl<I: Isa> HostSpace<I> {
    /// Marks the leaf of `page`, or those of the run that begins there, as busy, after splitting them off if they are large,
    /// and returns what the first was; `None` if there is none. The caller holds the host lock.
    fn take_out(&self, cpu: &Cpu, m: &I::Machine, bracket: &Bracket, page: Hvn) -> Result<Option<Leaf>, Uncut> {
        let run = self.granule();
        self.cut(cpu, m, bracket, page)?;
        self.cut(cpu, m, bracket, Hvn(page.0.saturating_add(run.pages())))?;
        if run > HUGE {
            self.cut_up(cpu, m, page)?;
        }
        let mut first = None;
        for n in 0..run.pages() {
            let guard = m.epoch().enter(cpu);
            let Some(seen) = self.table.entry(m, &guard, page.0 | n) else { return Ok(None) };
            match seen.pte {
                Pte::Leaf(leaf) if seen.swap::<HostFormat>(Pte::Transition(Transition::Busy)) => {
                    first.get_or_insert(leaf);
                }
                Pte::Leaf(_) | Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => {
                    debug_assert!(first.is_none(), "R4: a run is there in part");
                    return Ok(None);
                }
            }
        }
        Ok(first)
    }

    /// Splits what the run that begins at `page` is mapped with to single pages: the store has them one by one. The caller
    /// holds the host lock, and has cut the run out.
    fn cut_up(&self, cpu: &Cpu, m: &I::Machine, page: Hvn) -> Result<(), Uncut> {
        let Some(run) = HvnRange::block(page, self.granule()) else { return Ok(()) };
        let mut at = run.start();
        while at < run.end() {
            match self.table.split(m, &m.epoch().enter(cpu), at.0, Order::PAGE) {
                Ok(Split::Done { large, small }) => self.counts.split(large, small),
                Ok(Split::Nothing) => at = Hvn(at.0.saturating_add(HUGE.pages())),
                Err(EditError::NoTable) => return Err(Uncut(run)),
                // Nobody else changes a leaf under the host lock.
                Err(_) => spin_loop(),
            }
        }
        Ok(())
    }

    /// Has the store keep a page, or all of a run, whose leaves are marked as busy and were `leaf` and those behind it. If it
    /// refuses one they are all as they were, and false comes back. The caller holds the host lock.
    fn keep(&self, cpu: &Cpu, m: &I::Machine, store: &dyn Store<I::Machine>, page: Hvn, leaf: Leaf) -> bool {
        for n in 0..self.granule().pages() {
            let leaf = Leaf { pfn: Pfn(leaf.pfn.0 | n), ..leaf };
            let left = match store.keep(cpu, m, leaf.pfn) {
                Ok(Kept::Zeros) => Pte::Hole,
                Ok(Kept::As(token)) => {
                    self.counts.swapped.fetch_add(1, Ordering::Relaxed);
                    Pte::Swapped(token.into_place())
                }
                Err(NotKept::Full) => Pte::Leaf(leaf),
                // To pack it again before it was used would be to no avail.
                Err(NotKept::Unpackable) => Pte::Leaf(Leaf { rc: REFUSED, ..leaf }),
            };
            // Under the host lock only the CPU that marked an entry changes it.
            let done = self.change(cpu, m, Hvn(page.0 | n), Pte::Transition(Transition::Busy), left);
            debug_assert!(done, "R4: an entry marked as busy was changed by somebody else");
            if let Pte::Leaf(back) = left {
                if self.granule() > Order::PAGE {
                    self.put_back(cpu, m, page, Leaf { pfn: Pfn(back.pfn.0 ^ n), ..back });
                }
                return false;
            }
        }
        true
    }

    /// Puts the leaves of a run back where there are marks, or what has come to be there since: `leaf` and those behind it,
    /// from the last to the first. The caller holds the host lock.
    #[cold]
    fn put_back(&self, cpu: &Cpu, m: &I::Machine, page: Hvn, leaf: Leaf) {
        for n in (0..self.granule().pages()).rev() {
            let was = {
                let guard = m.epoch().enter(cpu);
                let seen = self.table.entry(m, &guard, page.0 | n);
                let back = Pte::Leaf(Leaf { pfn: Pfn(leaf.pfn.0 | n), ..leaf });
                seen.filter(|seen| seen.swap::<HostFormat>(back)).map(|seen| seen.pte)
            };
            debug_assert!(was.is_some(), "R4: an entry marked as busy was changed by somebody else");
            if let Some(Pte::Swapped(place)) = was {
                self.counts.swapped.fetch_sub(1, Ordering::Relaxed);
                self.regions.forget(cpu, m, Token::owned(place));
            }
        }
    }

    /// Brings a page back from `place`, where the store has it, or had a moment ago. The caller holds no guard.
    #[inline(never)]
    pub(super) fn swap_in(&self, cpu: &Cpu, m: &I::Machine, page: Hvn, place: Place) -> Populate {
        let Some(store) = self.regions.store() else {
            debug_assert!(false, "a kept page without a store");
            return Populate::OutOfReach;
        };
        let Some(frame) = zeroed::take(cpu, m, Order::PAGE) else { return Populate::NoMemory };
        let arriving = Pte::Transition(Transition::Arriving(place));
        if !self.change(cpu, m, page, Pte::Swapped(place), arriving) {
            zeroed::give(cpu, m, frame);
            return Populate::Retry;
        }
        let token = Token::owned(place);
        store.bring(cpu, m, &token, &frame);
        let leaf = Leaf { pfn: frame.pfn(), prot: Prot::all(), rc: Rc::empty() };
        let came = self.change(cpu, m, page, arriving, Pte::Leaf(leaf));
        store.forget(cpu, m, token);
        self.counts.swapped.fetch_sub(1, Ordering::Relaxed);
        if !came {
            // Discarded meanwhile.
            m.frames().free(cpu, frame.into_frame());
            return Populate::Retry;
        }
        // The entry owns the frame now.
        let _ = GuestFrame::from(frame).into_pfn();
        self.counts.add(Order::PAGE, 1);
        self.counts.swapped_in.fetch_add(1, Ordering::Relaxed);
        Populate::Present(page_of(page, Order::PAGE, leaf))
    }

    /// Replaces the entry of `page` if it is `from`.
    pub(super) fn change(&self, cpu: &Cpu, m: &I::Machine, page: Hvn, from: Pte, to: Pte) -> bool {
        let guard = m.epoch().enter(cpu);
        self.table.entry(m, &guard, page.0).is_some_and(|seen| seen.pte == from && seen.swap::<HostFormat>(to))
    }
}
