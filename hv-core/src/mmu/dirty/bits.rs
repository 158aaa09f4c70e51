//! Where the bits are, who may touch them, and how they come and go.

use heapless::Vec;

use super::LogError;
use super::harvest::pieces;
use crate::addr::{Hvn, HvnRange, Order, Pfn};
use crate::epoch::{Cpu, WalkGuard};
use crate::host::MAX_REGIONS;
use crate::machine::Machine;
use crate::radix::format::TableRef;
use crate::sync::{AtomicU64, Ordering, Rank, Ranked, RankedGuard};

/// Pages of one frame of bits.
const CHUNK: u64 = WORD * WORDS;
/// Pages of one word.
pub(super) const WORD: u64 = u64::BITS as u64;
/// Words of one frame.
const WORDS: u64 = 512;

/// One VM's log.
#[derive(Debug)]
pub struct DirtyLog {
    root: Root,
    parts: Vec<Part, MAX_REGIONS>,
    /// Frames of bits.
    chunks: u64,
    /// One start, harvest or stop at a time.
    turn: Ranked<()>,
    /// Harvests made.
    pub(super) harvests: AtomicU64,
    /// Pages that they reported.
    pub(super) harvested: AtomicU64,
}

/// The index's frame and a bit that says it is there, or 0: no log. On a line that every fault reads and only start and stop
/// write.
#[derive(Debug)]
#[repr(align(128))]
struct Root(AtomicU64);

/// A region, and where its bits are.
#[derive(Debug)]
struct Part {
    hvns: HvnRange,
    /// The page of the first bit: the region's first, or a few before it, so that no word begins inside a large block.
    base: u64,
    /// The first chunk.
    chunk: u64,
}

impl DirtyLog {
    /// The log of a host space of these regions, off.
    pub(crate) fn new(regions: impl Iterator<Item = HvnRange>) -> Self {
        let mut log = Self {
            root: Root(AtomicU64::new(0)),
            parts: Vec::new(),
            chunks: 0,
            turn: Ranked::new(Rank::Log, ()),
            harvests: AtomicU64::new(0),
            harvested: AtomicU64::new(0),
        };
        for hvns in regions.take(MAX_REGIONS) {
            let base = hvns.start().0 & !(WORD - 1);
            let pushed = log.parts.push(Part { hvns, base, chunk: log.chunks });
            debug_assert!(pushed.is_ok(), "more regions than there can be");
            log.chunks = log.chunks.saturating_add(hvns.end().0.saturating_sub(base).div_ceil(CHUNK));
        }
        log
    }

    /// The log if it is on. Asked inside a walk guard: a start waits for who found it off, and a stop for who found it on.
    #[inline]
    #[must_use]
    pub fn active(&self) -> Option<&Self> {
        (self.root.0.load(Ordering::Relaxed) != 0).then_some(self)
    }

    /// Notes that `pages` were stored to. The store has been made, inside the same guard (R16).
    pub(crate) fn mark<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, pages: &HvnRange) {
        // Release: who takes the bit sees the store.
        self.words(m, g, pages, &mut |word, mask, _| _ = word.fetch_or(mask, Ordering::Release));
    }

    /// Notes that `pages` are zero now. The caller holds no guard.
    pub(crate) fn discarded<M: Machine>(&self, cpu: &Cpu, m: &M, pages: HvnRange) {
        // A guard for each piece, because invalidators wait for it.
        for piece in pieces(pages, Order::GIB) {
            let guard = m.epoch().enter(cpu);
            if let Some(log) = self.active() {
                log.mark(m, &guard, &piece);
            }
        }
    }

    /// How many harvests there were, and how many pages they reported.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.harvests.load(Ordering::Relaxed), self.harvested.load(Ordering::Relaxed))
    }

    /// How many of `pages` have their bit set.
    pub(super) fn count<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, pages: &HvnRange) -> u64 {
        let mut count = 0_u64;
        self.words(m, g, pages, &mut |word, mask, _| {
            let set = word.load(Ordering::Relaxed) & mask;
            count = count.saturating_add(u64::from(set.count_ones()));
        });
        count
    }

    /// Takes the bits of `pages`, and gives those that were set to `taken`, word by word: the page of bit 0, and the bits.
    /// Under the mmu lock only.
    pub(super) fn take<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, pages: &HvnRange, taken: &mut dyn FnMut(Hvn, u64)) {
        self.words(m, g, pages, &mut |word, mask, first| {
            if word.load(Ordering::Relaxed) & mask != 0 {
                taken(first, word.fetch_and(!mask, Ordering::Acquire) & mask);
            }
        });
    }

    /// Its regions.
    pub(super) fn regions(&self) -> impl Iterator<Item = HvnRange> {
        self.parts.iter().map(|part| part.hvns)
    }

    /// Keeps another start, harvest or stop away.
    pub(super) fn turn<'a>(&'a self, cpu: &'a Cpu) -> RankedGuard<'a, ()> {
        self.turn.lock(cpu)
    }

    /// Frames that it holds just now.
    pub(crate) fn frames(&self) -> u64 {
        self.active().map_or(0, |log| log.chunks.saturating_add(log.index_order().pages()))
    }

    /// Takes the bits and turns the log on. On return every walk sees it. In its turn, and off.
    pub(super) fn open<M: Machine>(&self, cpu: &Cpu, m: &M) -> Result<(), LogError> {
        let index = m.alloc_table(cpu, self.index_order()).ok_or(LogError::NoMemory)?;
        for chunk in 0..self.chunks {
            let Some(bits) = m.alloc_table(cpu, Order::PAGE) else {
                self.free(cpu, m, index);
                return Err(LogError::NoMemory);
            };
            m.pte(&m.epoch().enter(cpu), index, chunk as usize).store(name(bits), Ordering::Relaxed);
        }
        // Release: who finds the index finds what is in it (R19).
        self.root.0.store(name(index), Ordering::Release);
        let _grace = m.epoch().synchronize(cpu);
        Ok(())
    }

    /// Turns the log off, if it is on, and frees the bits once nobody can be at them (R20).
    pub(crate) fn close<M: Machine>(&self, cpu: &Cpu, m: &M) {
        let root = self.root.0.swap(0, Ordering::Relaxed);
        if let Some(index) = named(root, self.index_order()) {
            self.free(cpu, m, index);
        }
    }

    fn free<M: Machine>(&self, cpu: &Cpu, m: &M, index: TableRef) {
        let grace = m.epoch().synchronize(cpu);
        for chunk in 0..self.chunks {
            let word = m.pte(&m.epoch().enter(cpu), index, chunk as usize).load(Ordering::Relaxed);
            if let Some(bits) = named(word, Order::PAGE) {
                m.free_table(cpu, grace.retire(bits));
            }
        }
        m.free_table(cpu, grace.retire(index));
    }

    fn index_order(&self) -> Order {
        Order::covering(self.chunks.div_ceil(WORDS)).unwrap_or(Order::MAX)
    }

    /// Calls `f` with every word that has bits of `pages`, the mask of these bits, and the page of the word's bit 0. With none
    /// if the log is off.
    fn words<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, pages: &HvnRange, f: &mut dyn FnMut(&AtomicU64, u64, Hvn)) {
        let Some(index) = named(self.root.0.load(Ordering::Acquire), self.index_order()) else { return };
        for part in &self.parts {
            let Some(some) = part.hvns.intersect(pages) else { continue };
            let (mut at, end) = (some.start().0, some.end().0);
            while at < end {
                let n = at.saturating_sub(part.base);
                let chunk = part.chunk.saturating_add(n / CHUNK);
                let word = m.pte(g, index, chunk as usize).load(Ordering::Relaxed);
                let Some(bits) = named(word, Order::PAGE) else { return };
                let first = (n % CHUNK / WORD) as usize;
                for word in first..WORDS as usize {
                    let base = at & !(WORD - 1);
                    let next = base.saturating_add(WORD).min(end);
                    let mask = u64::MAX << (at % WORD) & u64::MAX >> (WORD - 1 - next.wrapping_sub(1) % WORD);
                    f(m.pte(g, bits, word), mask, Hvn(base));
                    at = next;
                    if at >= end {
                        break;
                    }
                }
            }
        }
    }
}

/// A table's name in a word.
fn name(table: TableRef) -> u64 {
    table.base().0 << 1 | 1
}

/// The table of `order` that a word names.
fn named(word: u64, order: Order) -> Option<TableRef> {
    (word & 1 != 0).then_some(TableRef::new(Pfn(word >> 1), order))
}
