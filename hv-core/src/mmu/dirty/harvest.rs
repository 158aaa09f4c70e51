//! Start, harvest, stop: what is done to stage 2 while the bits come, are taken, and go.

use super::LogError;
use super::bits::WORD;
use crate::addr::{GfnRange, Hvn, HvnRange, Order};
use crate::epoch::Cpu;
use crate::host::{HUGE, Peek};
use crate::isa::{DirtyMethod, Isa, Stage2};
use crate::machine::Machine;
use crate::mmu::GuestMemory;
use crate::mmu::census::Census;
use crate::mmu::flush::Flushed;
use crate::mmu::space::Space;
use crate::mmu::zap::{rebuild, weaken};
use crate::sync::Ordering;

/// What one bracket of a harvest covers: so long, and for so many pages, faults have to try again. Checkers' stacks are small.
const PIECE: Order = match Order::new(if cfg!(any(loom, shuttle)) { 6 } else { 12 }) {
    Some(order) => order,
    None => Order::PAGE,
};
const WORDS: usize = (PIECE.pages() / WORD) as usize;

/// What a harvest came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harvest {
    /// Pages that were stored to.
    pub pages: u64,
    /// Brackets that it took.
    pub brackets: u64,
}

/// Pages whose stores are being made noticeable again. While a CPU may still hold the old translation it may store to them
/// unnoticed, so nobody is told of them before the flush (R14).
#[derive(Debug)]
#[must_use = "pages that are not reported are lost"]
pub struct PendingHarvest(Found);

/// Pages of one piece that were stored to.
#[derive(Debug)]
pub struct Found {
    /// The first page of the piece.
    base: Hvn,
    bits: [u64; WORDS],
}

impl PendingHarvest {
    fn new(piece: &HvnRange) -> Self {
        Self(Found { base: piece.start().align_down(PIECE), bits: [0; WORDS] })
    }

    /// Adds pages of the word that begins at `first`.
    fn add(&mut self, first: Hvn, bits: u64) {
        let word = first.since(self.0.base).and_then(|n| self.0.bits.get_mut((n / WORD) as usize));
        debug_assert!(word.is_some(), "a page outside of the piece");
        if let Some(word) = word {
            *word |= bits;
        }
    }

    /// Adds a leaf.
    fn add_leaf(&mut self, page: Hvn, order: Order) {
        debug_assert!(order == Order::PAGE, "R11: a large leaf in a VM whose log is on");
        self.add(Hvn(page.0 & !(WORD - 1)), 1 << (page.0 % WORD));
    }

    /// The pages, now that no CPU stores to them unnoticed.
    #[must_use]
    pub fn after(self, _flush: &Flushed) -> Found {
        self.0
    }
}

impl Found {
    /// Calls `f` with the pages, run by run.
    pub fn runs(&self, f: &mut dyn FnMut(HvnRange)) {
        let mut run: Option<HvnRange> = None;
        let mut base = self.base;
        for word in &self.bits {
            let mut left = *word;
            while left != 0 {
                let first = left.trailing_zeros();
                let pages = (left >> first).trailing_ones();
                // All bits above those of the run: none if it ends the word.
                left &= u64::MAX.checked_shl(first.saturating_add(pages)).unwrap_or(0);
                let next = base.checked_add(first.into()).and_then(|at| HvnRange::new(at, pages.into()));
                let (Some(next), before) = (next, run.take()) else { return };
                run = Some(match before {
                    Some(before) if before.end() == next.start() => before.hull(&next),
                    Some(before) => {
                        f(before);
                        next
                    }
                    None => next,
                });
            }
            base = Hvn(base.0.saturating_add(WORD));
        }
        if let Some(last) = run {
            f(last);
        }
    }

    /// How many.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

impl<I: Isa> GuestMemory<I> {
    /// Turns the dirty log on; if it is on already nothing changes. Every store to the VM's memory that begins after this has
    /// returned will be harvested. The caller holds no guard and no lock.
    pub fn log_start(&self, cpu: &Cpu, m: &I::Machine) -> Result<(), LogError> {
        let space = &**self.space();
        let Space { dirty, stage2, .. } = space;
        let _turn = dirty.turn(cpu);
        if dirty.active().is_some() {
            return Ok(());
        }
        dirty.open(cpu, m)?;
        match stage2.dirty_method() {
            DirtyMethod::WriteProtect => {
                for piece in dirty.regions().flat_map(|region| pieces(region, PIECE)) {
                    let (_, flushed) = weaken(cpu, m, space, &piece, &mut |windows, batch| {
                        windows.iter().for_each(|(_, gfns)| stage2.protect(cpu, m, *gfns, batch));
                    });
                    flushed.release(cpu, m);
                }
            }
            // No leaf is larger than a piece, so none reaches out of its bracket.
            DirtyMethod::HardwareBits => {
                let blocks = dirty.regions().flat_map(|region| pieces(region, Order::GIB));
                blocks.for_each(|block| rebuild(cpu, m, space, &block));
            }
        }
        Ok(())
    }

    /// Tells `found` of the pages that were stored to since the log was turned on or last harvested, as runs of guest frames;
    /// a page that several windows show is told of through each, one that none shows is kept for later. What was stored
    /// before `found` is called can be read then; what is stored later is for the next harvest. With the log off there are
    /// none. The caller holds no guard and no lock; `found` may take any lock but a dirty log's.
    pub fn log_harvest(&self, cpu: &Cpu, m: &I::Machine, found: &mut dyn FnMut(GfnRange)) -> Harvest {
        let space = &**self.space();
        let log = &space.dirty;
        let _turn = log.turn(cpu);
        let mut sum = Harvest::default();
        if log.active().is_none() {
            return sum;
        }
        let by_bits = space.stage2.dirty_method() == DirtyMethod::WriteProtect;
        for piece in log.regions().flat_map(|region| pieces(region, PIECE)) {
            if by_bits && log.count(m, &m.epoch().enter(cpu), &piece) == 0 {
                continue;
            }
            sum.brackets = sum.brackets.saturating_add(1);
            sum.pages = sum.pages.saturating_add(harvest(cpu, m, space, &piece, found));
        }
        log.harvests.fetch_add(1, Ordering::Relaxed);
        log.harvested.fetch_add(sum.pages, Ordering::Relaxed);
        sum
    }

    /// Turns the log off. What was not harvested is forgotten, and large translations come back with the next faults. The
    /// caller holds no guard and no lock.
    pub fn log_stop(&self, cpu: &Cpu, m: &I::Machine) {
        let space = &**self.space();
        let _turn = space.dirty.turn(cpu);
        if space.dirty.active().is_none() {
            return;
        }
        space.dirty.close(cpu, m);
        for block in space.dirty.regions().flat_map(|region| pieces(region, HUGE)) {
            if is_broken(cpu, m, space, &block) {
                rebuild(cpu, m, space, &block);
            }
        }
    }

    /// How many of the guest's pages `gfns` the log knows to have been stored to since the last harvest; 0 if it is off.
    /// What hardware has recorded is not looked for.
    pub fn logged(&self, cpu: &Cpu, m: &I::Machine, gfns: GfnRange) -> u64 {
        let guard = m.epoch().enter(cpu);
        let shown = self.space().slots.all(&guard);
        let hvns = shown.iter().filter_map(|slot| slot.hvns_of(&gfns));
        hvns.map(|hvns| self.space().dirty.count(m, &guard, &hvns)).sum()
    }
}

/// One piece.
fn harvest<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    piece: &HvnRange,
    found: &mut dyn FnMut(GfnRange),
) -> u64 {
    let Space { dirty, stage2, .. } = space;
    let mut pending = PendingHarvest::new(piece);
    let (windows, flushed) = weaken(cpu, m, space, piece, &mut |windows, batch| {
        for hvns in windows.iter().filter_map(|(slot, gfns)| slot.hvns_of(gfns)) {
            dirty.take(m, &m.epoch().enter(cpu), &hvns, &mut |first, bits| pending.add(first, bits));
        }
        match stage2.dirty_method() {
            DirtyMethod::WriteProtect => pending.0.runs(&mut |run| {
                for gfns in windows.iter().filter_map(|(slot, _)| slot.gfns_of(&run)) {
                    stage2.protect(cpu, m, gfns, batch);
                }
            }),
            DirtyMethod::HardwareBits => {
                for (slot, gfns) in windows {
                    stage2.collect(cpu, m, *gfns, batch, &mut |gfn, order| {
                        if let Some(page) = slot.hvn(gfn) {
                            pending.add_leaf(page, order);
                        }
                    });
                }
            }
        }
    });
    let pages = pending.after(&flushed);
    flushed.release(cpu, m);
    pages.runs(&mut |run| {
        windows.iter().filter_map(|(slot, _)| slot.gfns_of(&run)).for_each(&mut *found);
    });
    pages.pages()
}

/// Is the block mapped by small leaves where the host has a large one?
fn is_broken<I: Isa>(cpu: &Cpu, m: &I::Machine, space: &Space<I>, block: &HvnRange) -> bool {
    let (slots, there) = {
        let guard = m.epoch().enter(cpu);
        (space.slots.all(&guard), space.host.peek(m, &guard, block.start()))
    };
    if !matches!(there, Peek::Page(page) if page.order >= HUGE) {
        return false;
    }
    let mut census = Census::new();
    for gfns in slots.iter().filter_map(|slot| slot.gfns_of(block)) {
        space.stage2.census(cpu, m, gfns, &mut census);
    }
    census.leaves(Order::PAGE) != 0
}

/// The blocks of `order` that have pages of `range`, cut to it.
pub(super) fn pieces(range: HvnRange, order: Order) -> impl Iterator<Item = HvnRange> {
    let mut at = range.start();
    core::iter::from_fn(move || {
        let piece = HvnRange::block(at, order)?.intersect(&range)?;
        let left = piece.end().since(at).and_then(|pages| HvnRange::new(at, pages));
        at = piece.end();
        left
    })
}
