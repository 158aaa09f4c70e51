//! Taking pages away: whole leaves go, a leaf that reaches beyond the range is split first.
//!
//! ```text
//!   discard                                          others
//!   host lock
//!     widen: every large leaf that the range's       a first touch may fill a hole with a huge leaf after this look:
//!     edges cut, and every hole where one can come     the hole's whole block is in the bracket for that reason
//!     invalidate(widened)                            from here on no translation of the whole leaf exists (G3, R7)
//!       split at either edge                         a walk: Splitting, retry; then the small leaves, same frames
//!         no table for it, or a run of which a part
//!         stays -> those pages are zeroed where
//!         they are, after a grace                    a software writer that found the frame before is over by then
//!       leaf tables of the range, whole: detach.rs
//!       other leaves of the range -> holes, by CAS   a first touch afterwards gets a new, zeroed frame
//!       grace                                        a software writer holds its guard across the store (R2)
//!       frames are free
//!       empty tables: frozen, unlinked, grace, free
//!     end of the bracket                             a fault that resolved an old frame: open bracket or sequence (R6)
//! ```
//!
//! Splitting under a bracket over the range alone would leave a large translation of what is split, and with it one of
//! the frames that are freed (exhibits C1, C2). Frames of a split block come back one by one; the allocator merges them.

use heapless::Vec;

use super::region::Backing;
use super::space::HostSpace;
use super::{HUGE, Peek};
use crate::addr::{Hvn, HvnRange, Order, PAGE_SIZE};
use crate::epoch::Cpu;
use crate::isa::Isa;
use crate::machine::Machine;
use crate::mmu::space::Space;
use crate::mmu::zap::{Bracket, invalidate};
use crate::page::{GuestFrame, Token};
use crate::radix::Split;
use crate::radix::edit::{EditError, Removed};
use crate::radix::format::{Leaf, Place, Pte, TableRef};
use crate::sync::{Ordering, spin_loop};

/// How many blocks one step of a punch holds before it waits for a grace period.
const FRAMES_AT_ONCE: usize = 64;
/// How many table pages.
const TABLES_AT_ONCE: usize = 8;
const ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// What one step of a punch took out: frames that a walk, though no translation, may still know of.
#[derive(Debug, Default)]
#[must_use = "frames and tables are freed by HostSpace::release"]
struct Punched {
    frames: Vec<GuestFrame, FRAMES_AT_ONCE>,
    tokens: Vec<Token, FRAMES_AT_ONCE>,
    tables: Vec<TableRef, TABLES_AT_ONCE>,
}

impl Removed for Punched {
    fn room(&self) -> bool {
        !self.frames.is_full() && !self.tokens.is_full() && !self.tables.is_full()
    }

    fn leaf(&mut self, _key: u64, order: Order, leaf: Leaf) {
        let pushed = self.frames.push(GuestFrame::owned(leaf.pfn, order));
        debug_assert!(pushed.is_ok(), "room() was not asked");
    }

    fn swapped(&mut self, _key: u64, place: Place) {
        let pushed = self.tokens.push(Token::owned(place));
        debug_assert!(pushed.is_ok(), "room() was not asked");
    }

    fn table(&mut self, table: TableRef) {
        let pushed = self.tables.push(table);
        debug_assert!(pushed.is_ok(), "room() was not asked");
    }
}

/// A leaf could not be split for want of a table, or a run because it is not to be.
#[derive(Debug)]
pub(super) struct Uncut(pub HvnRange);

/// Gives the pages of `range` back; they read as zeros afterwards. Once this has returned, no access begun before it
/// lands in the old frames. Frames that the allocator does not own stay.
pub(crate) fn discard<I: Isa>(cpu: &Cpu, m: &I::Machine, space: &Space<I>, range: HvnRange) {
    for region in space.host.regions().iter() {
        let Some(part) = region.hvns().intersect(&range) else { continue };
        match region.backing() {
            Backing::Anon => discard_anon(cpu, m, space, part),
            Backing::Shared { object, first } => {
                let from = part.start().since(region.hvns().start()).and_then(|n| n.checked_add(*first));
                if let Some(from) = from {
                    object.punch(cpu, m, from, from.saturating_add(part.pages()));
                }
            }
            Backing::Fixed { .. } => {}
        }
    }
}

fn discard_anon<I: Isa>(cpu: &Cpu, m: &I::Machine, space: &Space<I>, range: HvnRange) {
    let host = &space.host;
    let _structure = host.lock(cpu);
    invalidate(cpu, m, space, host.reach(cpu, m, range), |bracket| {
        if let Some(range) = host.fit(cpu, m, bracket, range) {
            host.detach_all(cpu, m, bracket, range);
            let mut from = range.start();
            while from < range.end() {
                let (taken, next) = host.punch(cpu, m, from, range.end());
                host.release(cpu, m, taken);
                from = next;
            }
        }
        host.prune_all(cpu, m, bracket);
    });
}

impl<I: Isa> HostSpace<I> {
    /// The pages that a bracket has to cover for `range` to be taken away. The caller holds the host lock.
    pub(crate) fn reach(&self, cpu: &Cpu, m: &I::Machine, range: HvnRange) -> HvnRange {
        let last = Hvn(range.end().0.saturating_sub(1));
        [range.start(), last].iter().fold(range, |r, page| match self.leaf_around(cpu, m, *page) {
            Some(leaf) => r.hull(&leaf),
            None => r,
        })
    }

    /// The leaf that holds `page`, or the largest one that a first touch may put there.
    fn leaf_around(&self, cpu: &Cpu, m: &I::Machine, page: Hvn) -> Option<HvnRange> {
        let guard = m.epoch().enter(cpu);
        let order = match self.table.entry(m, &guard, page.0) {
            Some(seen) => match seen.pte {
                Pte::Leaf(_) => seen.order,
                Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => seen.order.min(HUGE),
            },
            None => Order::PAGE,
        };
        HvnRange::block(page, order.max(self.granule()))
    }

    /// Splits what reaches across either edge of `range`, and returns what of it consists of whole leaves. Where there is
    /// no table to split with, and of a run, pages are zeroed in place. The bracket covers every leaf concerned.
    fn fit(&self, cpu: &Cpu, m: &I::Machine, bracket: &Bracket, range: HvnRange) -> Option<HvnRange> {
        let mut left = range;
        for edge in [range.start(), range.end()] {
            if let Err(Uncut(leaf)) = self.cut(cpu, m, bracket, edge) {
                self.zero_in_place(cpu, m, leaf.intersect(&range)?);
                // One of the two is empty: the leaf reaches across an edge.
                let before = leaf.start().since(left.start()).and_then(|n| HvnRange::new(left.start(), n));
                let after = left.end().since(leaf.end()).and_then(|n| HvnRange::new(leaf.end(), n));
                left = before.or(after)?;
            }
        }
        Some(left)
    }

    /// Sees to it that no leaf reaches across `at`, from the page before it to it. A run that does is cut out whole, and stays.
    pub(super) fn cut(&self, cpu: &Cpu, m: &I::Machine, bracket: &Bracket, at: Hvn) -> Result<(), Uncut> {
        loop {
            let guard = m.epoch().enter(cpu);
            let Some(seen) = self.table.entry(m, &guard, at.0) else { return Ok(()) };
            if !matches!(seen.pte, Pte::Leaf(_)) {
                return Ok(());
            }
            if !at.is_aligned(self.granule()) {
                drop(guard);
                let Some(run) = HvnRange::block(at, self.granule()) else { return Ok(()) };
                self.cut(cpu, m, bracket, run.start())?;
                self.cut(cpu, m, bracket, run.end())?;
                return Err(Uncut(run));
            }
            if at.is_aligned(seen.order) {
                return Ok(());
            }
            let Some(leaf) = HvnRange::block(at, seen.order) else { return Ok(()) };
            debug_assert!(bracket.range().covers(&leaf), "G3: a leaf is split that the bracket does not cover");
            match self.table.split(m, &guard, at.0, Order::PAGE) {
                Ok(Split::Done { large, small }) => self.counts.split(large, small),
                Ok(Split::Nothing) => return Ok(()),
                Err(EditError::NoTable) => return Err(Uncut(leaf)),
                // Nobody else changes a leaf under the host lock.
                Err(
                    EditError::Retry
                    | EditError::Unfit
                    | EditError::Occupied
                    | EditError::TableInWay
                    | EditError::LeafInWay(_),
                ) => spin_loop(),
            }
        }
    }

    /// Zeroes pages that are there and stay, after every writer that found them before the bracket opened.
    fn zero_in_place(&self, cpu: &Cpu, m: &I::Machine, range: HvnRange) {
        let _grace = m.epoch().synchronize(cpu);
        let guard = m.epoch().enter(cpu);
        for page in range.start().0..range.end().0 {
            if let Peek::Page(found) = self.peek(m, &guard, Hvn(page)) {
                m.write(found.pfn, 0, &ZEROS);
                self.counts.zeroed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes leaves out of `from..to`, as many as one step can hold. Returns them and the page to go on from.
    fn punch(&self, cpu: &Cpu, m: &I::Machine, from: Hvn, to: Hvn) -> (Punched, Hvn) {
        let mut out = Punched::default();
        let next = self.table.unmap(m, &m.epoch().enter(cpu), from.0, to.0, &mut out);
        self.counts.swapped.fetch_sub(out.tokens.len() as u64, Ordering::Relaxed);
        for frame in &out.frames {
            self.counts.sub(frame.order(), 1);
        }
        (out, Hvn(next))
    }

    /// Unlinks and frees the tables that hold nothing any more and lie wholly in the bracket.
    pub(super) fn prune_all(&self, cpu: &Cpu, m: &I::Machine, bracket: &Bracket) {
        while self.release(cpu, m, self.prune(cpu, m, bracket)) {}
    }

    /// Unlinks tables that hold nothing any more and lie wholly in the bracket, as many as one step can hold.
    fn prune(&self, cpu: &Cpu, m: &I::Machine, bracket: &Bracket) -> Punched {
        let mut out = Punched::default();
        let (from, to) = (bracket.range().start().0, bracket.range().end().0);
        self.table.prune(m, &m.epoch().enter(cpu), from, to, &mut out);
        out
    }

    /// Waits for a grace period and frees what was taken out. True if there was anything.
    fn release(&self, cpu: &Cpu, m: &I::Machine, mut taken: Punched) -> bool {
        // Nobody but the entry knew of them.
        let forgotten = !taken.tokens.is_empty();
        while let Some(token) = taken.tokens.pop() {
            self.regions.forget(cpu, m, token);
        }
        if taken.frames.is_empty() && taken.tables.is_empty() {
            return forgotten;
        }
        let grace = m.epoch().synchronize(cpu);
        while let Some(frame) = taken.frames.pop() {
            m.frames().free_guest(cpu, grace.retire(frame));
        }
        while let Some(table) = taken.tables.pop() {
            m.free_table(cpu, grace.retire(table));
        }
        true
    }
}
