//! For tests: allocations that fail although there is memory, one by one. In no image; see the feature in Cargo.toml.

use core::ops::Range;

use super::Frames;
use crate::sync::{AtomicU64, Ordering};

/// Which allocations fail, by their number.
#[derive(Debug, Default)]
pub(super) struct Fuse {
    asked: AtomicU64,
    from: AtomicU64,
    to: AtomicU64,
}

impl Fuse {
    /// True for an allocation that is to fail.
    pub fn blows(&self) -> bool {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        (self.from.load(Ordering::Relaxed)..self.to.load(Ordering::Relaxed)).contains(&number)
    }
}

impl Frames {
    /// Of the allocations from now on, counted from 0, these fail, whatever is free. Who frees others still finds the reserve.
    pub fn fail(&self, numbers: Range<u64>) {
        let Fuse { asked, from, to } = self.fuse();
        from.store(numbers.start, Ordering::Relaxed);
        to.store(numbers.end, Ordering::Relaxed);
        asked.store(0, Ordering::Relaxed);
    }

    /// How many there have been since.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.fuse().asked.load(Ordering::Relaxed)
    }
}
