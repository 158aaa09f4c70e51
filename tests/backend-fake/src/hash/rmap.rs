//! The reverse map: which entries translate a guest frame. Removal goes by what was recorded (R18).

use std::collections::{BTreeMap, BTreeSet};

use hv_core::addr::{Gfn, GfnRange, Order};

use super::entry::ORDERS;
use crate::own::Own;

/// What was recorded of a valid entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The first guest frame.
    pub gfn: Gfn,
    /// The size.
    pub order: Order,
}

impl Record {
    /// The guest frames; `None` at the very end of the number space.
    pub fn gfns(self) -> Option<GfnRange> {
        GfnRange::block(self.gfn, self.order)
    }
}

/// The records of all valid entries.
#[derive(Debug, Default)]
pub struct Rmap {
    records: BTreeMap<usize, Record>,
    by_gfn: BTreeSet<(Gfn, usize)>,
}

impl Rmap {
    /// Entry `index` becomes valid.
    pub fn link(&mut self, index: usize, record: Record) {
        let _own = Own::begin();
        let old = self.records.insert(index, record);
        assert_eq!(old, None, "G7: entry {index} becomes valid twice");
        self.by_gfn.insert((record.gfn, index));
    }

    /// Entry `index` has been flushed, or will be before anybody relies on it.
    pub fn unlink(&mut self, index: usize) {
        if let Some(record) = self.records.remove(&index) {
            self.by_gfn.remove(&(record.gfn, index));
        }
    }

    /// What is recorded of an entry.
    pub fn record(&self, index: usize) -> Option<Record> {
        self.records.get(&index).copied()
    }

    /// All entries that translate any of `r`.
    pub fn within(&self, r: &GfnRange) -> Vec<(usize, Record)> {
        let _own = Own::begin();
        // The largest entries that reach into the range begin so much before it.
        let from = ORDERS.iter().map(|order| r.start().align_down(*order)).min().unwrap_or(r.start());
        let near = self.by_gfn.range((from, 0)..(r.end(), 0));
        let found = near.filter_map(|(_, index)| Some((*index, self.record(*index)?)));
        found.filter(|(_, record)| record.gfn.0 + record.order.pages() > r.start().0).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }
}
