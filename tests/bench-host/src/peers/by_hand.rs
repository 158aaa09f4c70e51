//! The floor: the least that tables shared by CPUs need. Four loads to a leaf, one compare-and-swap to change it.
//!
//! Bits are x86's: 0 present, 7 a leaf above the lowest level. No other CPU, no grace periods, no errors.

#![expect(unsafe_code, reason = "tables are raw memory")]

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::subject::{BATCH, Pages, Subject};
use bench_host::arena;

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Present, writable, accessed, dirty.
const LEAF: u64 = 0x63;
/// Present, writable, accessed.
const TABLE: u64 = 0x23;

/// A table.
pub struct ByHand {
    root: u64,
}

impl ByHand {
    /// An empty one.
    pub fn new() -> Self {
        Self { root: arena::table() as u64 }
    }

    #[inline]
    fn cell(table: u64, key: u64, shift: u32) -> &'static AtomicU64 {
        // SAFETY: a table's memory is never unmapped, and while it is one all accesses to it are through cells.
        unsafe { &*ptr::with_exposed_provenance::<AtomicU64>((table + (key >> shift & 511) * 8) as usize) }
    }

    /// The cell of `key` at the level below `above`; `None` if a table on the way is missing.
    #[inline]
    fn walk(&self, key: u64, above: &[u32], at: u32) -> Option<&'static AtomicU64> {
        let mut table = self.root;
        for &shift in above {
            let entry = Self::cell(table, key, shift).load(Ordering::Acquire);
            if entry & (PRESENT | LARGE) != PRESENT {
                return None;
            }
            table = entry & FRAME;
        }
        Some(Self::cell(table, key, at))
    }

    #[inline]
    fn leaf(&self, key: u64) -> Option<&'static AtomicU64> {
        self.walk(key, &[27, 18, 9], 0)
    }

    /// The cell that holds the leaf table of `key`.
    fn middle(&self, key: u64) -> Option<&'static AtomicU64> {
        self.walk(key, &[27, 18], 9)
    }

    #[cold]
    fn grow(&self, key: u64, levels: &[u32]) {
        let mut table = self.root;
        for &shift in levels {
            let cell = Self::cell(table, key, shift);
            if cell.load(Ordering::Acquire) == 0 {
                let new = arena::table() as u64 | TABLE;
                assert!(cell.compare_exchange(0, new, Ordering::AcqRel, Ordering::Relaxed).is_ok());
            }
            table = cell.load(Ordering::Acquire) & FRAME;
        }
    }
}

impl Subject for ByHand {
    type Batch<'a> = &'a mut Self;

    fn batch(&mut self) -> &mut Self {
        self
    }

    /// The floor of a range: whole leaf tables, filled where nobody sees them and published by one compare-and-swap.
    fn map_range(&mut self, key: u64, pfn: u64, pages: u64) {
        for start in (0..pages).step_by(BATCH as usize) {
            self.grow(key + start, &[27, 18]);
            let Some(cell) = self.middle(key + start) else { panic!("a middle table is missing") };
            let old = cell.load(Ordering::Acquire);
            let table = arena::table() as u64;
            for n in 0..BATCH {
                Self::cell(table, n, 0).store(pfn + start + n << 12 | LEAF, Ordering::Relaxed);
            }
            assert!(cell.compare_exchange(old, table | TABLE, Ordering::AcqRel, Ordering::Relaxed).is_ok());
            if old & PRESENT != 0 {
                // Empty, from single pages before.
                arena::free_table((old & FRAME) as usize);
            }
        }
    }

    fn unmap_range(&mut self, key: u64, pages: u64) {
        for start in (0..pages).step_by(BATCH as usize) {
            let Some(cell) = self.middle(key + start) else { panic!("a middle table is missing") };
            let old = cell.load(Ordering::Acquire);
            assert!(cell.compare_exchange(old, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok());
            arena::free_table((old & FRAME) as usize);
        }
    }
}

impl Pages for &mut ByHand {
    #[inline]
    fn map(&mut self, key: u64, pfn: u64) {
        loop {
            let Some(cell) = self.leaf(key) else {
                self.grow(key, &[27, 18, 9]);
                continue;
            };
            if cell.compare_exchange(0, pfn << 12 | LEAF, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
            panic!("mapped twice");
        }
    }

    #[inline]
    fn look_up(&self, key: u64) -> u64 {
        match self.leaf(key).map(|cell| cell.load(Ordering::Acquire)) {
            Some(entry) if entry & PRESENT != 0 => (entry & FRAME) >> 12,
            _ => panic!("not mapped"),
        }
    }

    #[inline]
    fn unmap(&mut self, key: u64) -> u64 {
        let Some(cell) = self.leaf(key) else { panic!("not mapped") };
        let old = cell.load(Ordering::Acquire);
        if old & PRESENT == 0 || cell.compare_exchange(old, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            panic!("not mapped");
        }
        (old & FRAME) >> 12
    }
}
