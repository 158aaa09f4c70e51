//! Which frames are taken, for the model checkers.
//!
//! The fake machine asks of every access whether its frame is free. To look through caches and buddy would take all of
//! their locks, and that would order everything with everything. Under a checker the answer comes from here instead;
//! otherwise there is nothing here.

use crate::addr::{Order, Pfn};

/// The ledger.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    #[cfg(any(loom, shuttle))]
    taken: crate::sync::Unseen<std::collections::BTreeSet<u64>>,
}

#[cfg(any(loom, shuttle))]
impl Ledger {
    /// A block has found an owner.
    pub fn take(&self, pfn: Pfn, order: Order) {
        let mut taken = self.taken.lock();
        let fine = (0..order.pages()).all(|n| taken.insert(pfn.0 | n));
        assert!(fine, "G1: {pfn:?} is given out twice");
    }

    /// A block is about to be given back.
    pub fn give(&self, pfn: Pfn, order: Order) {
        let mut taken = self.taken.lock();
        let fine = (0..order.pages()).all(|n| taken.remove(&(pfn.0 | n)));
        assert!(fine, "R24: {pfn:?} is given back twice");
    }

    /// True if a frame is taken, if that is known.
    pub fn is_taken(&self, pfn: Pfn) -> Option<bool> {
        Some(self.taken.lock().contains(&pfn.0))
    }
}

#[cfg(not(any(loom, shuttle)))]
impl Ledger {
    /// Nothing.
    pub fn take(&self, _pfn: Pfn, _order: Order) {}

    /// Nothing.
    pub fn give(&self, _pfn: Pfn, _order: Order) {}

    /// Not known.
    pub fn is_taken(&self, _pfn: Pfn) -> Option<bool> {
        None
    }
}
