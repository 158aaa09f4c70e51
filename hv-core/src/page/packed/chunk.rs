//! Chunks of frames: where a store in memory puts things. See [`super`] for the layout.
//!
//! Headers and free chunks are read and written under the shelves' lock; a chunk in use is its token's.

use crate::addr::{PAGE_SIZE, Pfn};
use crate::machine::Machine;
use crate::radix::format::Place;

/// Sizes of chunks in bytes, smallest first: so many eights that a frame has no room for a smaller number of larger ones.
pub(super) const SIZES: [u16; 13] = [8, 64, 128, 200, 288, 400, 504, 576, 672, 808, 1016, 1352, 2032];
/// The bytes of a frame before its first chunk.
pub(super) const HEADER: usize = 24;
/// No frame, no chunk.
pub(super) const NONE: u64 = u64::MAX;
pub(super) const NO_CHUNK: u16 = u16::MAX;

const CHUNK_BITS: u32 = 9;
const CLASS_BITS: u32 = 4;

/// A chunk's frame, size and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub pfn: Pfn,
    /// Which of [`SIZES`].
    pub class: usize,
    pub number: u16,
}

/// What stands at the beginning of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// Neighbours in the list of those with a free chunk.
    pub next: u64,
    pub prev: u64,
    /// Chunks in use.
    pub used: u16,
    /// Chunks from this one on have never been used.
    pub fresh: u16,
    /// The first of the others that are free.
    pub free: u16,
}

/// Changes the header of a frame in a list, if there is one.
pub(super) fn link<M: Machine>(m: &M, pfn: u64, change: impl FnOnce(&mut Header)) {
    if pfn != NONE {
        let mut header = Header::load(m, Pfn(pfn));
        change(&mut header);
        header.store(m, Pfn(pfn));
    }
}

impl Chunk {
    /// `None` if the frame's number is too large for a place.
    pub fn place(self) -> Option<Place> {
        let low = (self.class as u64) << CHUNK_BITS | u64::from(self.number);
        let high = self.pfn.0 << (CHUNK_BITS + CLASS_BITS);
        Place::new(high | low).filter(|_| high >> (CHUNK_BITS + CLASS_BITS) == self.pfn.0)
    }

    pub fn at(place: Place) -> Self {
        let number = place.number();
        let class = (number >> CHUNK_BITS & ((1 << CLASS_BITS) - 1)) as usize;
        Self { pfn: Pfn(number >> (CHUNK_BITS + CLASS_BITS)), class, number: (number & ((1 << CHUNK_BITS) - 1)) as u16 }
    }

    /// Where it begins in its frame.
    pub fn offset(self) -> usize {
        let size = SIZES.get(self.class).copied().map_or(0, usize::from);
        size.saturating_mul(usize::from(self.number)).saturating_add(HEADER)
    }

    /// The bytes of the block in it.
    pub fn length<M: Machine>(self, m: &M) -> usize {
        usize::from(self.next_free(m))
    }

    /// In a free one, the number of the next one.
    pub fn next_free<M: Machine>(self, m: &M) -> u16 {
        let mut bytes = [0; 2];
        m.read(self.pfn, self.offset(), &mut bytes);
        u16::from_le_bytes(bytes)
    }

    pub fn set_next_free<M: Machine>(self, m: &M, next: u16) {
        m.write(self.pfn, self.offset(), &next.to_le_bytes());
    }
}

impl Header {
    pub fn load<M: Machine>(m: &M, pfn: Pfn) -> Self {
        let mut words = [[0; 8]; HEADER / 8];
        m.read(pfn, 0, words.as_flattened_mut());
        let [next, prev, counts] = words.map(u64::from_le_bytes);
        Self { next, prev, used: counts as u16, fresh: (counts >> 16) as u16, free: (counts >> 32) as u16 }
    }

    pub fn store<M: Machine>(&self, m: &M, pfn: Pfn) {
        let counts = u64::from(self.free) << 32 | u64::from(self.fresh) << 16 | u64::from(self.used);
        m.write(pfn, 0, [self.next, self.prev, counts].map(u64::to_le_bytes).as_flattened());
    }

    pub fn is_full(&self, class: usize) -> bool {
        let size = SIZES.get(class).copied().map_or(PAGE_SIZE, usize::from);
        usize::from(self.used) >= PAGE_SIZE.saturating_sub(HEADER).checked_div(size).unwrap_or(0)
    }
}
