//! How much of a VM's memory is there, and in leaves of which size. Written where the host table changes, never where a
//! present page is looked up.

use super::{GIANT, HUGE};
use crate::addr::Order;
use crate::sync::{AtomicU64, Ordering};

/// A host table's accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostStats {
    /// Pages that are there.
    pub resident: u64,
    /// Leaves of [`HUGE`].
    pub huge: u64,
    /// Leaves of [`GIANT`].
    pub giant: u64,
    /// Leaves that were split.
    pub splits: u64,
    /// Tables that gave way to a leaf.
    pub collapses: u64,
    /// Pages zeroed in place because there was no table to split their leaf with.
    pub zeroed: u64,
    /// Pages that the store keeps just now.
    pub swapped: u64,
    /// How often a page was brought back.
    pub swapped_in: u64,
    /// How often a page was given to the store, or to nobody because it was zeros.
    pub swapped_out: u64,
    /// Blocks in which reclaim looked for pages that are not used.
    pub aged: u64,
    /// Pages that were found to be used.
    pub used: u64,
}

/// The counters behind [`HostStats`].
#[derive(Debug)]
pub(super) struct Counts {
    small: AtomicU64,
    huge: AtomicU64,
    giant: AtomicU64,
    pub splits: AtomicU64,
    pub collapses: AtomicU64,
    pub zeroed: AtomicU64,
    pub swapped: AtomicU64,
    pub swapped_in: AtomicU64,
    pub swapped_out: AtomicU64,
    pub aged: AtomicU64,
    pub used: AtomicU64,
}

impl Counts {
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            small: zero(),
            huge: zero(),
            giant: zero(),
            splits: zero(),
            collapses: zero(),
            zeroed: zero(),
            swapped: zero(),
            swapped_in: zero(),
            swapped_out: zero(),
            aged: zero(),
            used: zero(),
        }
    }

    fn of(&self, order: Order) -> &AtomicU64 {
        if order >= GIANT {
            &self.giant
        } else if order >= HUGE {
            &self.huge
        } else {
            &self.small
        }
    }

    /// `leaves` leaves of `order` are there that were not.
    pub fn add(&self, order: Order, leaves: u64) {
        self.of(order).fetch_add(leaves, Ordering::Relaxed);
    }

    /// `leaves` leaves of `order` are gone.
    pub fn sub(&self, order: Order, leaves: u64) {
        self.of(order).fetch_sub(leaves, Ordering::Relaxed);
    }

    /// A leaf of `large` became leaves of `small`.
    pub fn split(&self, large: Order, small: Order) {
        self.sub(large, 1);
        self.add(small, large.pages() >> small.get());
        self.splits.fetch_add(1, Ordering::Relaxed);
    }

    /// `leaves` leaves of `small`, and as many holes as there were, became one of `large`.
    pub fn collapse(&self, small: Order, leaves: u64, large: Order) {
        self.sub(small, leaves);
        self.add(large, 1);
        self.collapses.fetch_add(1, Ordering::Relaxed);
    }

    pub fn stats(&self) -> HostStats {
        let load = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let (small, huge, giant) = (load(&self.small), load(&self.huge), load(&self.giant));
        let large = huge.wrapping_mul(HUGE.pages()).wrapping_add(giant.wrapping_mul(GIANT.pages()));
        HostStats {
            resident: small.wrapping_add(large),
            huge,
            giant,
            splits: load(&self.splits),
            collapses: load(&self.collapses),
            zeroed: load(&self.zeroed),
            swapped: load(&self.swapped),
            swapped_in: load(&self.swapped_in),
            swapped_out: load(&self.swapped_out),
            aged: load(&self.aged),
            used: load(&self.used),
        }
    }
}
