//! One extent of an object: 512 pages in a row, in one block or in frames of their own.
//!
//! ```text
//!   empty --first touch, a block to be had--> building --last page--> complete      the team
//!     |                                         |                        |
//!     +--first touch, no block--> broken <------+------------------------+          broken: see breaking.rs
//!   broken --its last page gone--> empty
//! ```
//!
//! A page of a team is zeroed as it comes to life, not before: what is not alive is the allocator's to be asked for again
//! ([`super::tmpfs::Tmpfs::shrink`]). A team that was broken keeps its living pages where they are; pages that come
//! to life later get frames of their own.
//!
//! Locks: the state is under a lock of rank Team. It is held while a host leaf of one of the pages is made, so a break,
//! which takes it as well, meets every leaf. The usage word is written under the lock and may be read without: as a hint.

use alloc::vec::Vec;

use super::team::{Bits, Usage};
use super::{Frame, GuestFrame, Swap, zeroed};
use crate::addr::{Order, Pfn};
use crate::epoch::{Cpu, Grace};
use crate::host::HUGE;
use crate::machine::Machine;
use crate::sync::{AtomicU64, Ordering, Rank, Ranked, RankedGuard};

/// How an object's pages come to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grow {
    /// In teams, as long as there are blocks for them.
    #[default]
    Teams,
    /// One by one.
    Pages,
}

/// One extent.
#[derive(Debug)]
pub struct Extent {
    usage: AtomicU64,
    state: Ranked<State>,
}

/// Where its pages are.
#[derive(Debug, Default)]
pub struct State {
    /// The block of the team, or of what was one while any page of it is left.
    head: Option<Pfn>,
    /// Pages that live.
    there: Bits,
    /// Those of them that have frames of their own.
    apart: Bits,
    /// Their frames; has no entries as long as there are none.
    frames: Vec<Pfn>,
    /// Pages that the swap store keeps.
    out: Bits,
}

/// No frame for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFrame;

/// The extent with its lock held.
#[derive(Debug)]
pub struct Held<'e> {
    usage: &'e AtomicU64,
    state: RankedGuard<'e, State>,
    /// Index of its first page in the object.
    base: u64,
}

impl Extent {
    pub(super) fn new() -> Self {
        Self { usage: AtomicU64::new(Usage::Empty.encode()), state: Ranked::new(Rank::Team, State::default()) }
    }

    /// What it was a moment ago.
    pub fn usage(&self) -> Usage {
        Usage::decode(self.usage.load(Ordering::Relaxed))
    }

    /// Takes its lock. `base` is the index of its first page.
    pub(super) fn lock<'e>(&'e self, cpu: &'e Cpu, base: u64) -> Held<'e> {
        Held { usage: &self.usage, state: self.state.lock(cpu), base }
    }
}

impl Held<'_> {
    /// What it is.
    pub fn usage(&self) -> Usage {
        Usage::decode(self.usage.load(Ordering::Relaxed))
    }

    pub(super) fn set_usage(&self, usage: Usage) {
        self.usage.store(usage.encode(), Ordering::Relaxed);
    }

    /// One more, or one fewer, host leaf maps the whole team.
    pub fn huge_mapping(&self, change: i64) {
        if let Usage::Complete { huge_mappings } = self.usage() {
            self.set_usage(Usage::Complete { huge_mappings: huge_mappings.saturating_add_signed(change) });
        }
    }

    /// The block of the team.
    pub fn head(&self) -> Option<Pfn> {
        self.state.head
    }

    /// Pages that live.
    pub(super) fn there(&self) -> Bits {
        self.state.there
    }

    /// The frame of page `n`, if it lives.
    pub fn frame(&self, n: u64) -> Option<Pfn> {
        if !self.state.there.has(n) {
            None
        } else if self.state.apart.has(n) {
            usize::try_from(n).ok().and_then(|n| self.state.frames.get(n)).copied()
        } else {
            Some(Pfn(self.state.head?.0 | n))
        }
    }

    /// True if page `n` has any content: it lives, or the store keeps it.
    pub fn exists(&self, n: u64) -> bool {
        self.state.there.has(n) || self.state.out.has(n)
    }

    /// Brings page `n` to life: zero, or what the store kept of it.
    pub(super) fn touch<M: Machine>(
        &mut self,
        cpu: &Cpu,
        m: &M,
        n: u64,
        grow: Grow,
        swap: Option<&dyn Swap<M>>,
    ) -> Result<Pfn, NoFrame> {
        if let Some(pfn) = self.frame(n) {
            return Ok(pfn);
        }
        self.found(cpu, m, grow);
        let Usage::Building(alive) = self.usage() else { return self.touch_apart(cpu, m, n, swap) };
        let head = self.state.head.ok_or(NoFrame)?;
        // The block is the extent's; this page of it was nobody's so far.
        let page = Frame::owned(Pfn(head.0 | n), Order::PAGE).zero(m);
        let pfn = GuestFrame::from(page).into_pfn();
        self.state.there.set(n);
        let alive = alive.saturating_add(1);
        let all = alive == HUGE.pages();
        self.set_usage(if all { Usage::Complete { huge_mappings: 0 } } else { Usage::Building(alive) });
        Ok(pfn)
    }

    /// The first touch of an empty extent decides what it is to be.
    fn found<M: Machine>(&mut self, cpu: &Cpu, m: &M, grow: Grow) {
        if self.usage() == Usage::Empty {
            let block = if grow == Grow::Teams { m.frames().alloc(cpu, HUGE) } else { None };
            self.set_usage(if block.is_some() { Usage::Building(0) } else { Usage::Broken });
            self.state.head = block.map(Frame::into_pfn);
        }
    }

    fn touch_apart<M: Machine>(
        &mut self,
        cpu: &Cpu,
        m: &M,
        n: u64,
        swap: Option<&dyn Swap<M>>,
    ) -> Result<Pfn, NoFrame> {
        let State { frames, there, apart, out, .. } = &mut *self.state;
        if frames.is_empty() {
            let all = usize::try_from(HUGE.pages()).map_err(|_| NoFrame)?;
            frames.try_reserve_exact(all).map_err(|_| NoFrame)?;
            frames.resize(all, Pfn(0));
        }
        let place = usize::try_from(n).ok().and_then(|n| frames.get_mut(n)).ok_or(NoFrame)?;
        let page = zeroed::take(cpu, m, Order::PAGE).ok_or(NoFrame)?;
        if out.has(n)
            && let Some(swap) = swap
        {
            swap.bring(cpu, m, self.base.saturating_add(n), &page);
            out.clear(n);
        }
        *place = GuestFrame::from(page).into_pfn();
        there.set(n);
        apart.set(n);
        Ok(*place)
    }

    /// Brings every page of a team to life. Where there is none, nor can be one, nothing happens.
    pub(super) fn complete<M: Machine>(&mut self, cpu: &Cpu, m: &M, grow: Grow) {
        self.found(cpu, m, grow);
        for n in 0..HUGE.pages() {
            if !matches!(self.usage(), Usage::Building(_)) || self.touch(cpu, m, n, grow, None).is_err() {
                return;
            }
        }
    }

    /// What of a team's block has not come to life there.
    pub(super) fn unborn(&self) -> Bits {
        let mut all = Bits::range(0, HUGE.pages());
        self.state.there.iter().filter(|n| !self.state.apart.has(*n)).for_each(|n| all.clear(n));
        all
    }

    /// Frees `rest`, which was the unborn part of a team that is none any more.
    pub(super) fn give_up<M: Machine>(&mut self, cpu: &Cpu, m: &M, rest: Bits) {
        let Some(head) = self.state.head else { return };
        for n in rest.iter() {
            m.frames().free(cpu, Frame::owned(Pfn(head.0 | n), Order::PAGE));
        }
    }

    /// Ends the life of `pages`, which nothing maps and no walk knows any more. Returns how many had been alive.
    pub(super) fn free<M: Machine>(&mut self, cpu: &Cpu, m: &M, pages: Bits, grace: &Grace) -> u64 {
        let mut freed = 0_u64;
        let whole = self.state.apart.count() == 0 && (0..HUGE.pages()).all(|n| pages.has(n) && self.state.there.has(n));
        if let Some(head) = self.state.head.filter(|_| whole) {
            m.frames().free_guest(cpu, grace.retire(GuestFrame::owned(head, HUGE)));
            self.state.there = Bits::default();
            freed = HUGE.pages();
        }
        for n in pages.iter() {
            let Some(pfn) = self.frame(n) else { continue };
            m.frames().free_guest(cpu, grace.retire(GuestFrame::owned(pfn, Order::PAGE)));
            self.state.there.clear(n);
            self.state.apart.clear(n);
            freed = freed.saturating_add(1);
        }
        if self.state.there == self.state.apart {
            self.state.head = None;
        }
        if self.state.apart == Bits::default() {
            self.state.frames = Vec::new();
        }
        self.settle();
        freed
    }

    /// An extent of which nothing is left may become a team again.
    fn settle(&mut self) {
        if self.state.there == Bits::default() && self.state.out == Bits::default() {
            self.set_usage(Usage::Empty);
        }
    }

    /// The store has page `n` now.
    pub(super) fn kept(&mut self, n: u64) {
        self.state.out.set(n);
    }

    /// Has the store forget those of `pages` that it keeps.
    pub(super) fn forget<M: Machine>(&mut self, pages: Bits, swap: Option<&dyn Swap<M>>) {
        for n in pages.iter().filter(|n| self.state.out.has(*n)) {
            if let Some(swap) = swap {
                swap.forget(self.base.saturating_add(n));
            }
        }
        pages.iter().for_each(|n| self.state.out.clear(n));
        self.settle();
    }
}
