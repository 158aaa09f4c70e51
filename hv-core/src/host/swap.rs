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
//! Kept before the grace period, a store made through the old frame is lost (G2). Brought before the claim, two CPUs bring
//! one page; the second finds at its place what the store has put there since. Both forms of that are found by the mark's
//! having the place in it: as long as a page is arriving the place cannot be used again, so an entry that says Arriving from
//! there is ours, even if table and page were taken away and made anew meanwhile. A discard therefore waits for nobody.
//!
//! Rules: R2, R4, R6, R19, R23, R24; a failure at any step leaves the page where it was.

use heapless::Vec;

use super::discard::Uncut;
use super::format::{HostFormat, REFUSED};
use super::space::{HostSpace, Populate, page_of};
use crate::addr::{Hvn, HvnRange, Order};
use crate::epoch::Cpu;
use crate::isa::Isa;
use crate::machine::Machine;
use crate::mmu::space::Space;
use crate::mmu::zap::{Bracket, invalidate};
use crate::page::{GuestFrame, Kept, NotKept, Store, Token, zeroed};
use crate::radix::format::{Leaf, Place, Prot, Pte, Rc, Transition};
use crate::sync::Ordering;

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
pub(super) fn swap_out<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    store: &dyn Store<I::Machine>,
    victims: &[Hvn],
) -> Gone {
    let (host, mut gone) = (&space.host, Gone::default());
    let _structure = host.lock(cpu);
    let hull = victims.first().zip(victims.last()).and_then(|(first, last)| {
        let pages = last.since(*first)?.checked_add(1)?;
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
                Err(Uncut(_)) => gone.refused = gone.refused.saturating_add(1),
            }
        }
    });
    if out.is_empty() {
        return gone;
    }
    let grace = m.epoch().synchronize(cpu);
    for (page, leaf) in out {
        let (left, counter) = match store.keep(cpu, m, leaf.pfn) {
            Ok(Kept::Zeros) => (Pte::Hole, &mut gone.freed),
            Ok(Kept::As(token)) => {
                host.counts.swapped.fetch_add(1, Ordering::Relaxed);
                (Pte::Swapped(token.into_place()), &mut gone.freed)
            }
            Err(NotKept::Full) => (Pte::Leaf(leaf), &mut gone.refused),
            // To pack it again before it was used would be to no avail.
            Err(NotKept::Unpackable) => (Pte::Leaf(Leaf { rc: REFUSED, ..leaf }), &mut gone.refused),
        };
        *counter = counter.saturating_add(1);
        // Under the host lock only the CPU that marked an entry changes it.
        let done = host.change(cpu, m, page, Pte::Transition(Transition::Busy), left);
        debug_assert!(done, "R4: an entry marked as busy was changed by somebody else");
        if !matches!(left, Pte::Leaf(_)) {
            host.counts.sub(Order::PAGE, 1);
            host.counts.swapped_out.fetch_add(1, Ordering::Relaxed);
            m.frames().free_guest(cpu, grace.retire(GuestFrame::owned(leaf.pfn, Order::PAGE)));
        }
    }
    gone
}

impl<I: Isa> HostSpace<I> {
    /// Marks the leaf of `page` as busy, after splitting it off if it is large, and returns what it was; `None` if there is
    /// none. The caller holds the host lock.
    fn take_out(&self, cpu: &Cpu, m: &I::Machine, bracket: &Bracket, page: Hvn) -> Result<Option<Leaf>, Uncut> {
        self.cut(cpu, m, bracket, page)?;
        self.cut(cpu, m, bracket, Hvn(page.0.saturating_add(1)))?;
        let guard = m.epoch().enter(cpu);
        let Some(seen) = self.table.walk(m, &guard, page.0) else { return Ok(None) };
        Ok(match seen.pte {
            Pte::Leaf(leaf) if seen.swap::<HostFormat>(Pte::Transition(Transition::Busy)) => Some(leaf),
            Pte::Leaf(_) | Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => None,
        })
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
        self.table.walk(m, &guard, page.0).is_some_and(|seen| seen.pte == from && seen.swap::<HostFormat>(to))
    }
}
