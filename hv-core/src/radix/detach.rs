//! Taking leaf tables away whole, with the leaves that they hold: one compare-and-swap a table, none a page.
//!
//! ```text
//!   detach                                          others
//!   CAS table -> hole, in the table above           a walk now: the hole
//!                                                   a walk inside the table: goes on there, and uses what it finds, until
//!                                                     its guard ends
//!                                                   a first touch inside the table: its CAS succeeds, in a table to which
//!                                                     no walk leads any more
//!   a flush, if hardware walks the table; grace     nobody is inside: its words stand, and that late leaf is among them
//!   held: what the table owns is read and freed       (R24)
//!   the table is freed
//! ```
//!
//! Nothing is frozen, so unlike `prune` and `collapse` this does not make the late one fail. It is the caller's business
//! that whoever came late derives nothing from what it published: that takes a bracket over all keys of the table, open
//! from before the unlinking until after the grace period (R6). Read before the grace period, the table would lack the
//! late leaf, whose frame nobody would free, and frames would be freed that walks still use (G1).

use super::Radix;
use super::edit::Removed;
use super::walk::{Node, in_reach, look};
use crate::addr::Pfn;
use crate::epoch::{Retired, WalkGuard};
use crate::isa::RadixFormat;
use crate::machine::Machine;
use crate::radix::format::{Leaf, Pte, TableRef};
use crate::sync::Ordering;

/// A run of entries of a detached table. See [`Radix::held`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The first entry, which is no hole.
    pub pte: Pte,
    /// How many: leaves of frames that follow each other, with equal rights, or one of anything else.
    pub pages: u64,
    /// The slot to go on from.
    pub next: usize,
}

impl<F: RadixFormat> Radix<F> {
    /// Unlinks the leaf tables whose keys lie all in `from..to`, with what they hold, and gives them to `out`. Returns the
    /// key to go on from: `to`, or earlier if `out` had no more room (R22).
    ///
    /// The caller has a bracket open over these keys, and no two such calls overlap.
    pub fn detach<M: Machine, R: Removed>(&self, m: &M, g: &WalkGuard<'_>, from: u64, to: u64, out: &mut R) -> u64 {
        Node::root::<F>(self.root).map_or(to, |root| self.detach_below(m, g, root, from, to, out))
    }

    fn detach_below<M: Machine, R: Removed>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        node: Node,
        from: u64,
        to: u64,
        out: &mut R,
    ) -> u64 {
        let span = node.leaf_order();
        let mut key = from;
        while key < to && in_reach::<F>(key) {
            let start = span.align_down(key);
            let Some(end) = start.checked_add(span.pages()) else { return to };
            let seen = look::<F, M>(m, g, node, start);
            if let Pte::Table { table, bits } = seen.pte
                && let Some(child) = node.child(table, bits)
            {
                if child.level > 0 {
                    let stop = end.min(to);
                    let next = self.detach_below(m, g, child, key, stop, out);
                    if next < stop {
                        return next;
                    }
                } else if from <= start && end <= to {
                    if !out.room() {
                        return start;
                    }
                    // Nobody else changes an entry that holds a table, so this cannot fail.
                    if seen.swap::<F>(Pte::Hole) {
                        self.frames.fetch_sub(table.order().pages(), Ordering::Relaxed);
                        out.table(table);
                    }
                }
            }
            key = end;
            if node.slot(start).saturating_add(1) >= node.len() {
                break;
            }
        }
        to
    }

    /// The first run, from `slot` on, of what a leaf table holds that was detached; `None` if all the rest are holes.
    pub fn held<M: Machine>(m: &M, g: &WalkGuard<'_>, table: &Retired<TableRef>, slot: usize) -> Option<Held> {
        let node = Node::at::<F>(*table.get(), 0)?;
        let look = |at: usize| look::<F, M>(m, g, node, at as u64);
        let (first, pte) = (slot..node.len()).map(|at| (at, look(at).pte)).find(|(_, pte)| *pte != Pte::Hole)?;
        let mut pages = 1;
        if let Pte::Leaf(leaf) = pte {
            // By their words: nothing is left to decode.
            let follows = |at: usize| {
                let pfn = Pfn(leaf.pfn.0.wrapping_add(at.wrapping_sub(first) as u64));
                look(at).raw == F::encode(Pte::Leaf(Leaf { pfn, ..leaf }), 0)
            };
            pages = (first..node.len()).take_while(|at| follows(*at)).count().max(1);
        }
        Some(Held { pte, pages: pages as u64, next: first.saturating_add(pages) })
    }
}
