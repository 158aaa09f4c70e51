//! Breaking an extent: the two orders in which it is safe, and no third.
//!
//! ```text
//!   Breaking<MarkFirst>         mark --> invalidate --> free      punch hole, truncation, shrinker
//!   Breaking<InvalidateFirst>   invalidate --> mark --> free      swapping, which lets the extent go in between
//! ```
//!
//! Marked first, a fault that still saw the team publishes before the invalidation, which then removes it, or meets its
//! bracket. Invalidated first, nothing comes afterwards to correct a large mapping made in between:
//!
//! ```text
//!   fault                                      swapping
//!                                              lock; bracket: all leaves of the extent gone; unlock
//!   sample                                     (the word says Swap, the block is whole)
//!   populate: a small leaf of page p           host leaf made under the extent's lock: never large, for the word
//!   commit: level from the host leaf: small
//!     from the team: large                     <- exhibit A8
//!                                              lock; mark; page p is in use and stays
//!                                              the other 511 are freed: no bracket, since nobody maps them
//! ```
//!
//! So the second order may be had only where every commit takes its size from the host leaf, in the section (R13). The
//! witness for that is [`PrimaryTested`], which only `mmu/lock.rs` makes, where the commit is. Frames are yielded by
//! `Breaking<Over>` alone, to which there is no other way.

use super::extent::{Extent, Held};
use super::team::{Bits, Usage};
use super::{GuestFrame, Store};
use crate::addr::Order;
use crate::epoch::Cpu;
use crate::host::HUGE;
use crate::machine::Machine;
use crate::mmu::lock::PrimaryTested;

/// A break under way, in step `S`.
#[derive(Debug)]
#[must_use = "a break that was begun is finished"]
pub struct Breaking<S>(S);

/// Marked, not yet invalidated.
#[derive(Debug)]
pub struct MarkFirst<'e> {
    extent: Held<'e>,
    pages: Bits,
    rest: Bits,
}

/// Invalidated, not yet marked; the extent's lock is free.
#[derive(Debug)]
pub struct InvalidateFirst<'e> {
    extent: &'e Extent,
}

/// Both: nothing maps the pages, and nobody will take the extent for a team.
#[derive(Debug)]
pub struct Over<'e> {
    extent: Held<'e>,
    pages: Bits,
    /// Of a team's block, what never lived: no leaf was ever made of it.
    rest: Bits,
}

impl<'e> Breaking<MarkFirst<'e>> {
    /// Marks the extent, of which `pages` are to go. Its lock is held until the break is over.
    pub(super) fn mark_first<M: Machine>(cpu: &Cpu, m: &M, extent: Held<'e>, pages: Bits) -> Self {
        let rest = mark(cpu, m, &extent);
        Self(MarkFirst { extent, pages, rest })
    }

    /// Has `unmap` take every leaf of the pages, given as places in the extent, out of every host table.
    pub(super) fn then_invalidate(self, unmap: impl FnOnce(u64, u64)) -> Breaking<Over<'e>> {
        let Self(MarkFirst { extent, pages, rest }) = self;
        if let Some((from, to)) = pages.hull() {
            unmap(from, to);
        }
        Breaking(Over { extent, pages, rest })
    }
}

impl<'e> Breaking<InvalidateFirst<'e>> {
    /// Gives the extent's word to swapping, and has `unmap` take every leaf of it out of every host table. The extent can
    /// be used meanwhile, page by page.
    pub(super) fn invalidate_first(
        cpu: &Cpu,
        extent: &'e Extent,
        base: u64,
        _: PrimaryTested,
        unmap: impl FnOnce(u64, u64),
    ) -> Self {
        let held = extent.lock(cpu);
        match held.usage() {
            Usage::Building(_) | Usage::Complete { .. } => held.set_usage(Usage::Swap(base)),
            Usage::Empty | Usage::Swap(_) | Usage::Broken => {}
        }
        unmap(0, HUGE.pages());
        drop(held);
        Self(InvalidateFirst { extent })
    }

    /// Marks the extent. Of its pages those go that `in_use` does not claim: nobody has touched them since.
    pub(super) fn then_mark<M: Machine>(self, cpu: &'e Cpu, m: &M, in_use: impl Fn(u64) -> bool) -> Breaking<Over<'e>> {
        let Self(InvalidateFirst { extent }) = self;
        let extent = extent.lock(cpu);
        let rest = mark(cpu, m, &extent);
        let there = extent.there(cpu, m);
        let mut pages = there;
        there.iter().filter(|n| in_use(*n)).for_each(|n| pages.clear(n));
        Breaking(Over { extent, pages, rest })
    }
}

impl Breaking<Over<'_>> {
    /// Hands the pages to the store and frees their frames; those that it does not take stay. Returns how many went, and how
    /// many stayed.
    pub(super) fn keep<M: Machine>(&mut self, cpu: &Cpu, m: &M, store: &dyn Store<M>) -> (u64, u64) {
        // Who found a frame before it was unmapped may still be writing to it. Nobody finds it any more.
        let grace = m.epoch().synchronize(cpu);
        let (mut taken, mut stayed, Over { extent, pages, .. }) = (0_u64, 0_u64, &mut self.0);
        for n in core::mem::take(pages).iter() {
            let Some(pfn) = extent.frame(cpu, m, n) else { continue };
            let Ok(kept) = store.keep(cpu, m, pfn) else {
                stayed = stayed.saturating_add(1);
                continue;
            };
            extent.kept(cpu, m, n, kept);
            m.frames().free_guest(cpu, grace.retire(GuestFrame::owned(pfn, Order::PAGE)));
            taken = taken.saturating_add(1);
        }
        (taken, stayed)
    }

    /// Has the store forget what it keeps of the pages: they are to be zero.
    pub(super) fn forget<M: Machine>(&mut self, cpu: &Cpu, m: &M, store: Option<&dyn Store<M>>) {
        self.0.extent.forget(cpu, m, self.0.pages, store);
    }

    /// Frees the pages after a grace period. Returns how many frames went back.
    pub(super) fn free<M: Machine>(mut self, cpu: &Cpu, m: &M) -> u64 {
        let Over { extent, pages, rest } = &mut self.0;
        extent.give_up(cpu, m, *rest);
        let grace = m.epoch().synchronize(cpu);
        rest.count().saturating_add(extent.free(cpu, m, *pages, &grace))
    }
}

/// A team is none any more. Returns what of its block never lived.
fn mark<M: Machine>(cpu: &Cpu, m: &M, extent: &Held<'_>) -> Bits {
    match extent.usage() {
        Usage::Building(_) | Usage::Complete { .. } | Usage::Swap(_) => {
            extent.set_usage(Usage::Broken);
            extent.unborn(cpu, m)
        }
        Usage::Empty | Usage::Broken => Bits::default(),
    }
}
