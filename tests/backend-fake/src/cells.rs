//! Storage for the words of frames, made when first needed and never moved, so that a cell lent to a walker stays valid.

use std::sync::OnceLock;

use hv_core::addr::PAGE_SIZE;
use hv_core::sync::{AtomicU64, SMALL};

use crate::own::Own;

/// True where a model checker pays for every cell, and knows of no cell made in the middle of a race.
pub const CHECKED: bool = SMALL;
/// Words of a frame that exist. A model checker's worlds use the first few.
pub const WORDS: usize = if CHECKED { 8 } else { PAGE_SIZE / 8 };
/// Places made at once.
const SLAB: usize = if CHECKED { 1 } else { 64 };

/// Room for the words of one frame; which frame's, `book` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub usize);

/// The storage.
#[derive(Debug)]
pub struct Cells {
    slabs: Vec<OnceLock<Box<[AtomicU64]>>>,
}

impl Cells {
    /// Room for as many frames, none of it made.
    pub fn new(frames: usize) -> Self {
        Self { slabs: (0..frames.div_ceil(SLAB)).map(|_| OnceLock::new()).collect() }
    }

    /// The words at a place. They hold whatever their last user left.
    pub fn at(&self, place: Place) -> &[AtomicU64] {
        let slab = self.slabs[place.0 / SLAB].get_or_init(|| {
            let _own = Own::begin();
            (0..SLAB * WORDS).map(|_| AtomicU64::new(0)).collect()
        });
        let first = place.0 % SLAB * WORDS;
        &slab[first..first + WORDS]
    }
}
