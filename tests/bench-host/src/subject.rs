//! What every competitor can do, and the one set of loops that measures them all.

use std::hint::black_box;
use std::ops::Range;

/// 1 GiB of 4 KiB pages.
pub const PAGES: u64 = 1 << 18;
/// Pages that are handled inside one batch: one walk guard, one freshness proof, one leaf table.
pub const BATCH: u64 = 512;
/// First key. Not 0, so that no index but the leaf's is 0 at every level.
pub const FIRST_KEY: u64 = 5 << 27 | 3 << 18;
/// First frame that is mapped. Nobody touches what is mapped, so it need not exist.
pub const FIRST_PFN: u64 = 7 << 18;

/// The frame that page number `page` is mapped to. Its number says which page a dependent look-up goes to next; all of
/// them make one cycle. Neighbours, so that what is measured is the walk and not the machine's caches.
#[inline]
pub fn frame_of(page: u64) -> u64 {
    FIRST_PFN + (page + 1 & (PAGES - 1))
}

/// One table implementation.
pub trait Subject {
    /// What stays open for up to [`BATCH`] pages.
    type Batch<'a>: Pages
    where
        Self: 'a;
    /// Opens a batch.
    fn batch(&mut self) -> Self::Batch<'_>;
    /// Maps `pages` pages from `key` to the frames from `pfn`, by 4 KiB leaves.
    fn map_range(&mut self, key: u64, pfn: u64, pages: u64);
    /// Removes the translations of `pages` pages from `key`.
    fn unmap_range(&mut self, key: u64, pages: u64);
}

/// Single pages of a table.
pub trait Pages {
    /// Maps one page that is not mapped.
    fn map(&mut self, key: u64, pfn: u64);
    /// The frame of one page that is mapped.
    fn look_up(&self, key: u64) -> u64;
    /// Unmaps one page that is mapped; returns its frame.
    fn unmap(&mut self, key: u64) -> u64;
}

fn batches() -> impl Iterator<Item = Range<u64>> {
    (0..PAGES).step_by(BATCH as usize).map(|start| start..start + BATCH)
}

/// Makes the tables that 1 GiB needs, and leaves them empty.
pub fn prepare<S: Subject>(s: &mut S) {
    for pages in batches() {
        let mut batch = s.batch();
        batch.map(FIRST_KEY + pages.start, FIRST_PFN);
        batch.unmap(FIRST_KEY + pages.start);
    }
}

/// Maps every page.
pub fn map<S: Subject>(s: &mut S) {
    for pages in batches() {
        let mut batch = s.batch();
        for page in pages {
            batch.map(FIRST_KEY + page, frame_of(page));
        }
    }
}

/// Looks every page up, in order of the keys; one look-up may begin before the one before it has ended.
pub fn independent<S: Subject>(s: &mut S) {
    let mut sum = 0_u64;
    for pages in batches() {
        let batch = s.batch();
        for page in pages {
            sum = sum.wrapping_add(batch.look_up(black_box(FIRST_KEY + page)));
        }
    }
    assert_eq!(sum, frames_sum(), "a look-up found a wrong frame");
}

/// Looks every page up, each where the one before it said.
pub fn dependent<S: Subject>(s: &mut S) {
    let mut page = 0;
    for _ in batches() {
        let batch = s.batch();
        for _ in 0..BATCH {
            page = batch.look_up(FIRST_KEY + page) - FIRST_PFN;
        }
    }
    assert_eq!(page, 0, "the chain is one cycle through all pages");
}

/// Unmaps every page.
pub fn unmap<S: Subject>(s: &mut S) {
    let mut sum = 0_u64;
    for pages in batches() {
        let mut batch = s.batch();
        for page in pages {
            sum = sum.wrapping_add(batch.unmap(FIRST_KEY + page));
        }
    }
    assert_eq!(sum, frames_sum(), "an unmap removed a wrong frame");
}

/// The sum of all frames that [`map`] mapped.
fn frames_sum() -> u64 {
    (0..PAGES).fold(0, |sum, n| sum.wrapping_add(FIRST_PFN + n))
}
