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

use super::team::{Bits, Usage};
use super::{Frame, GuestFrame, Kept, Store, Token, zeroed};
use crate::addr::{Order, Pfn};
use crate::epoch::{Cpu, Grace, never_published};
use crate::host::HUGE;
use crate::machine::Machine;
use crate::radix::format::{Place, TableRef};
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
struct State {
    /// The block of the team, or of what was one while any page of it is left.
    head: Option<Pfn>,
    /// What each page is: a word for each, in a frame of its own and not on the heap, since guests decide how many
    /// extents come to need one. There unless the extent is empty. Only the holder of the lock looks into it.
    index: Option<TableRef>,
}

/// What one page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// Nothing: zeros, if anybody asks.
    Unborn,
    /// Alive, at its place in the block.
    InBlock(Pfn),
    /// Alive, in a frame of its own.
    Apart(Pfn),
    /// The store keeps it there.
    Out(Place),
}

impl Page {
    const KIND: u64 = 3;
    const PFN_SHIFT: u32 = 2;
    const PLACE_SHIFT: u32 = u64::BITS - Place::BITS;

    const fn encode(self) -> u64 {
        match self {
            Self::Unborn => 0,
            Self::InBlock(pfn) => pfn.0 << Self::PFN_SHIFT | 1,
            Self::Apart(pfn) => pfn.0 << Self::PFN_SHIFT | 2,
            Self::Out(place) => place.number() << Self::PLACE_SHIFT | 3,
        }
    }

    const fn decode(word: u64) -> Self {
        let pfn = Pfn(word >> Self::PFN_SHIFT);
        match word & Self::KIND {
            1 => Self::InBlock(pfn),
            2 => Self::Apart(pfn),
            3 => match Place::new(word >> Self::PLACE_SHIFT) {
                Some(place) => Self::Out(place),
                None => Self::Unborn,
            },
            _ => Self::Unborn,
        }
    }
}

/// No frame for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFrame;

/// The extent with its lock held.
#[derive(Debug)]
pub struct Held<'e> {
    usage: &'e AtomicU64,
    state: RankedGuard<'e, State>,
}

impl Extent {
    pub(super) fn new() -> Self {
        Self { usage: AtomicU64::new(Usage::Empty.encode()), state: Ranked::new(Rank::Team, State::default()) }
    }

    /// What it was a moment ago.
    pub fn usage(&self) -> Usage {
        Usage::decode(self.usage.load(Ordering::Relaxed))
    }

    /// Takes its lock.
    pub(super) fn lock<'e>(&'e self, cpu: &'e Cpu) -> Held<'e> {
        Held { usage: &self.usage, state: self.state.lock(cpu) }
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

    /// Frames that the extent itself takes.
    pub(super) fn tables(&self) -> u64 {
        u64::from(self.state.index.is_some())
    }

    fn page<M: Machine>(&self, cpu: &Cpu, m: &M, n: u64) -> Page {
        let (Some(index), Ok(slot)) = (self.state.index, usize::try_from(n)) else { return Page::Unborn };
        Page::decode(m.pte(&m.epoch().enter(cpu), index, slot).load(Ordering::Relaxed))
    }

    fn set_page<M: Machine>(&mut self, cpu: &Cpu, m: &M, n: u64, page: Page) {
        if let (Some(index), Ok(slot)) = (self.state.index, usize::try_from(n)) {
            m.pte(&m.epoch().enter(cpu), index, slot).store(page.encode(), Ordering::Relaxed);
        }
    }

    /// The pages of which `is` is true.
    fn pages<M: Machine>(&self, cpu: &Cpu, m: &M, is: impl Fn(Page) -> bool) -> Bits {
        let mut all = Bits::default();
        (0..HUGE.pages()).filter(|n| is(self.page(cpu, m, *n))).for_each(|n| all.set(n));
        all
    }

    /// Pages that live.
    pub(super) fn there<M: Machine>(&self, cpu: &Cpu, m: &M) -> Bits {
        self.pages(cpu, m, |page| matches!(page, Page::InBlock(_) | Page::Apart(_)))
    }

    /// The frame of page `n`, if it lives.
    pub fn frame<M: Machine>(&self, cpu: &Cpu, m: &M, n: u64) -> Option<Pfn> {
        match self.page(cpu, m, n) {
            Page::InBlock(pfn) | Page::Apart(pfn) => Some(pfn),
            Page::Unborn | Page::Out(_) => None,
        }
    }

    /// True if page `n` has any content: it lives, or the store keeps it.
    pub fn exists<M: Machine>(&self, cpu: &Cpu, m: &M, n: u64) -> bool {
        self.page(cpu, m, n) != Page::Unborn
    }

    /// Brings page `n` to life: zero, or what the store kept of it.
    pub(super) fn touch<M: Machine>(
        &mut self,
        cpu: &Cpu,
        m: &M,
        n: u64,
        grow: Grow,
        store: Option<&dyn Store<M>>,
    ) -> Result<Pfn, NoFrame> {
        if let Some(pfn) = self.frame(cpu, m, n) {
            return Ok(pfn);
        }
        self.found(cpu, m, grow)?;
        let Usage::Building(alive) = self.usage() else { return self.touch_apart(cpu, m, n, store) };
        let head = self.state.head.ok_or(NoFrame)?;
        // The block is the extent's; this page of it was nobody's so far.
        let page = Frame::owned(Pfn(head.0 | n), Order::PAGE).zero(m);
        let pfn = GuestFrame::from(page).into_pfn();
        self.set_page(cpu, m, n, Page::InBlock(pfn));
        let alive = alive.saturating_add(1);
        let all = alive == HUGE.pages();
        self.set_usage(if all { Usage::Complete { huge_mappings: 0 } } else { Usage::Building(alive) });
        Ok(pfn)
    }

    /// The first touch of an empty extent decides what it is to be.
    fn found<M: Machine>(&mut self, cpu: &Cpu, m: &M, grow: Grow) -> Result<(), NoFrame> {
        if self.usage() == Usage::Empty {
            self.state.index = Some(m.alloc_table(cpu, Order::PAGE).ok_or(NoFrame)?);
            let block = if grow == Grow::Teams { m.frames().alloc(cpu, HUGE) } else { None };
            self.set_usage(if block.is_some() { Usage::Building(0) } else { Usage::Broken });
            self.state.head = block.map(Frame::into_pfn);
        }
        Ok(())
    }

    fn touch_apart<M: Machine>(
        &mut self,
        cpu: &Cpu,
        m: &M,
        n: u64,
        store: Option<&dyn Store<M>>,
    ) -> Result<Pfn, NoFrame> {
        let page = zeroed::take(cpu, m, Order::PAGE).ok_or(NoFrame)?;
        if let (Page::Out(place), Some(store)) = (self.page(cpu, m, n), store) {
            let token = Token::owned(place);
            store.bring(cpu, m, &token, &page);
            store.forget(cpu, m, token);
        }
        let pfn = GuestFrame::from(page).into_pfn();
        self.set_page(cpu, m, n, Page::Apart(pfn));
        Ok(pfn)
    }

    /// Brings every page of a team to life. Where there is none, nor can be one, nothing happens.
    pub(super) fn complete<M: Machine>(&mut self, cpu: &Cpu, m: &M, grow: Grow) {
        if self.found(cpu, m, grow).is_err() {
            return;
        }
        for n in 0..HUGE.pages() {
            if !matches!(self.usage(), Usage::Building(_)) || self.touch(cpu, m, n, grow, None).is_err() {
                return;
            }
        }
    }

    /// What of a team's block has not come to life there.
    pub(super) fn unborn<M: Machine>(&self, cpu: &Cpu, m: &M) -> Bits {
        self.pages(cpu, m, |page| !matches!(page, Page::InBlock(_)))
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
        let whole = pages.count() == HUGE.pages() && self.unborn(cpu, m) == Bits::default();
        for n in pages.iter() {
            let Some(pfn) = self.frame(cpu, m, n) else { continue };
            if !whole {
                m.frames().free_guest(cpu, grace.retire(GuestFrame::owned(pfn, Order::PAGE)));
            }
            self.set_page(cpu, m, n, Page::Unborn);
            freed = freed.saturating_add(1);
        }
        if let Some(head) = self.state.head.filter(|_| whole) {
            m.frames().free_guest(cpu, grace.retire(GuestFrame::owned(head, HUGE)));
        }
        self.settle(cpu, m);
        freed
    }

    /// An extent of which nothing is left may become a team again.
    fn settle<M: Machine>(&mut self, cpu: &Cpu, m: &M) {
        if self.pages(cpu, m, |page| page != Page::Unborn) == Bits::default() {
            self.set_usage(Usage::Empty);
            self.state.head = None;
            if let Some(index) = self.state.index.take() {
                // Nobody but the holders of the lock has ever seen it.
                m.free_table(cpu, never_published(index));
            }
        }
    }

    /// Page `n` lives no more: this is left of it. The caller frees its frame.
    pub(super) fn kept<M: Machine>(&mut self, cpu: &Cpu, m: &M, n: u64, kept: Kept) {
        let page = match kept {
            Kept::Zeros => Page::Unborn,
            Kept::As(token) => Page::Out(token.into_place()),
        };
        self.set_page(cpu, m, n, page);
    }

    /// Has the store forget those of `pages` that it keeps.
    pub(super) fn forget<M: Machine>(&mut self, cpu: &Cpu, m: &M, pages: Bits, store: Option<&dyn Store<M>>) {
        for n in pages.iter() {
            if let (Page::Out(place), Some(store)) = (self.page(cpu, m, n), store) {
                store.forget(cpu, m, Token::owned(place));
                self.set_page(cpu, m, n, Page::Unborn);
            }
        }
    }
}
