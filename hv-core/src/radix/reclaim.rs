//! Taking table pages away: empty ones while others walk and map, and all of them at the end. Full ones: [`super::detach`].

use super::Radix;
use super::edit::Removed;
use super::walk::{Node, in_reach, look, read};
use crate::addr::Order;
use crate::epoch::{Cpu, Grace, WalkGuard};
use crate::isa::RadixFormat;
use crate::machine::Machine;
use crate::radix::format::{Pte, Transition};
use crate::sync::Ordering;

impl<F: RadixFormat> Radix<F> {
    /// Unlinks the tables whose keys lie all in `from..to` and that are empty, and gives them to `out` while it has room.
    ///
    /// A table is frozen entry by entry before it is unlinked, so a CPU that is just then publishing into it finds a
    /// transition and starts over at the root; if any entry turns out to be in use the table is thawed and stays. The
    /// caller keeps two prunes of overlapping ranges apart.
    pub fn prune<M: Machine, R: Removed>(&self, m: &M, g: &WalkGuard<'_>, from: u64, to: u64, out: &mut R) {
        if let Some(root) = Node::root::<F>(self.root) {
            self.prune_below(m, g, root, from, to, out);
        }
    }

    fn prune_below<M: Machine, R: Removed>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        node: Node,
        from: u64,
        to: u64,
        out: &mut R,
    ) {
        let span = node.leaf_order();
        let mut key = from;
        while key < to {
            let start = span.align_down(key);
            let Some(end) = start.checked_add(span.pages()) else { return };
            if in_reach::<F>(start) {
                let seen = read::<F, M>(m, g, node, start);
                if let Pte::Table { table, bits } = seen.pte
                    && let Some(child) = node.child(table, bits)
                {
                    self.prune_below(m, g, child, key, end.min(to), out);
                    if from <= start && end <= to && out.room() && freeze::<F, M>(m, g, child, start) {
                        // Nobody else changes an entry that holds a table, so this cannot fail.
                        if seen.swap::<F>(Pte::Hole) {
                            self.frames.fetch_sub(table.order().pages(), Ordering::Relaxed);
                            out.table(table);
                        } else {
                            thaw::<F, M>(m, g, child, start, child.len());
                        }
                    }
                }
            } else {
                return;
            }
            if node.slot(start).saturating_add(1) >= node.len() {
                return;
            }
            key = end;
        }
    }

    /// Frees every table, and gives every leaf and every kept page's entry to `entry`. Nobody else may know of the table
    /// any more: the caller has seen to it that no CPU walks it, in software or in hardware, nor will.
    pub fn destroy<M: Machine>(self, cpu: &Cpu, m: &M, mut entry: impl FnMut(u64, Order, Pte)) {
        let grace = m.epoch().synchronize(cpu);
        if let Some(root) = Node::root::<F>(self.root) {
            free_below::<F, M>(cpu, m, root, 0, &mut entry, &grace);
        }
    }
}

/// Makes every entry of a table frozen, if all are holes; otherwise leaves it as it was.
fn freeze<F: RadixFormat, M: Machine>(m: &M, g: &WalkGuard<'_>, node: Node, key: u64) -> bool {
    for slot in 0..node.len() {
        let seen = look::<F, M>(m, g, node, node.key_of(key, slot));
        if seen.pte != Pte::Hole || !seen.swap::<F>(Pte::Transition(Transition::Frozen)) {
            thaw::<F, M>(m, g, node, key, slot);
            return false;
        }
    }
    true
}

/// Makes the first `count` entries, which this CPU froze, holes again.
fn thaw<F: RadixFormat, M: Machine>(m: &M, g: &WalkGuard<'_>, node: Node, key: u64, count: usize) {
    for slot in 0..count {
        let seen = read::<F, M>(m, g, node, node.key_of(key, slot));
        debug_assert!(seen.pte == Pte::Transition(Transition::Frozen), "a frozen entry changed");
        seen.swap::<F>(Pte::Hole);
    }
}

/// Frees `node` and all below it.
fn free_below<F: RadixFormat, M: Machine>(
    cpu: &Cpu,
    m: &M,
    node: Node,
    key: u64,
    entry: &mut impl FnMut(u64, Order, Pte),
    grace: &Grace,
) {
    for slot in 0..node.len() {
        let at = node.key_of(key, slot);
        // The guard ends before anything is freed: this CPU must not look like a walker of what it frees.
        let pte = read::<F, M>(m, &m.epoch().enter(cpu), node, at).pte;
        match pte {
            Pte::Table { table, bits } => {
                if let Some(child) = node.child(table, bits) {
                    free_below::<F, M>(cpu, m, child, at, entry, grace);
                }
            }
            Pte::Leaf(_) | Pte::Swapped(_) => entry(at, node.leaf_order(), pte),
            Pte::Hole | Pte::Transition(_) => {}
        }
    }
    m.free_table(cpu, grace.retire(node.table));
}
