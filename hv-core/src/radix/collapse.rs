//! Replacing a table of small entries by one large leaf.
//!
//! ```text
//!   collapse                                     others
//!   freeze: each entry, whatever it holds,       a walk that read an entry before: goes on with its frame until its guard
//!     CAS -> Frozen, its word kept    (R3, R4)     ends; the caller waits a grace period if that frame is to be given up
//!                                                a walk now: Transition, it starts over at the root
//!                                                a first touch: its CAS of the hole fails
//!   the caller looks at the words and decides,
//!     copies, waits: no entry moves
//!   either  put_leaf: CAS table -> leaf          a walk now: the large leaf
//!             the table is unlinked; it is       a walk still inside the table: Frozen, until its guard ends
//!             freed after a grace period (R2)
//!   or      thaw: the words are put back
//! ```
//!
//! The caller keeps structural changes of the table apart: the tables above a frozen one stay where they are although
//! no guard is held between the steps.

use alloc::vec::Vec;
use core::marker::PhantomData;

use super::Radix;
use super::walk::{Node, Seen, in_reach, look, read};
use crate::addr::Order;
use crate::epoch::WalkGuard;
use crate::isa::RadixFormat;
use crate::machine::Machine;
use crate::radix::format::{Leaf, Pte, TableRef, Transition};
use crate::sync::Ordering;

/// A table all of whose entries this CPU has frozen, and what they held.
#[derive(Debug)]
#[must_use = "a frozen table is replaced or thawed"]
pub struct FrozenTable<F> {
    /// The table with the entry that names the frozen one.
    parent: Node,
    table: Node,
    key: u64,
    words: Vec<u64>,
    format: PhantomData<fn() -> F>,
}

/// Why a table was not frozen; everything is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFrozen {
    /// No table stands there, or none can.
    NoTable,
    /// An entry is a table itself, names a kept page, or is in transition.
    InUse,
    /// No memory to keep the words in.
    NoMemory,
}

impl<F: RadixFormat> FrozenTable<F> {
    /// What the entries held, in order.
    pub fn entries(&self) -> impl Iterator<Item = Pte> + '_ {
        self.words.iter().map(|word| F::decode(*word, self.table.level))
    }

    /// The first key it covers.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The size of the leaf that can stand in its place.
    #[must_use]
    pub fn order(&self) -> Order {
        self.parent.leaf_order()
    }

    /// The size of a leaf in it.
    #[must_use]
    pub fn small(&self) -> Order {
        self.table.leaf_order()
    }
}

impl<F: RadixFormat> Radix<F> {
    /// Calls `f` with each entry of the table that stands where a leaf of `order` at `key` would, and the size of a leaf
    /// in it. False if none stands there. What was seen may have changed by then.
    pub fn survey<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        key: u64,
        order: Order,
        mut f: impl FnMut(Pte, Order),
    ) -> bool {
        let Some((_, table)) = self.table_at(m, g, key, order) else { return false };
        for slot in 0..table.len() {
            f(look::<F, M>(m, g, table, table.key_of(key, slot)).pte, table.leaf_order());
        }
        true
    }

    /// Freezes the table that stands where a leaf of `order` at `key` would, whose entries are leaves and holes.
    pub fn freeze<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        key: u64,
        order: Order,
    ) -> Result<FrozenTable<F>, NotFrozen> {
        let (parent, table) = self.table_at(m, g, key, order).ok_or(NotFrozen::NoTable)?;
        let mut words = Vec::new();
        words.try_reserve_exact(table.len()).map_err(|_| NotFrozen::NoMemory)?;
        let mut frozen = FrozenTable { parent, table, key: order.align_down(key), words, format: PhantomData };
        for slot in 0..table.len() {
            loop {
                let seen = look::<F, M>(m, g, table, table.key_of(key, slot));
                if !matches!(seen.pte, Pte::Hole | Pte::Leaf(_)) {
                    self.thaw(m, g, frozen);
                    return Err(NotFrozen::InUse);
                }
                if seen.swap::<F>(Pte::Transition(Transition::Frozen)) {
                    frozen.words.push(seen.raw);
                    break;
                }
            }
        }
        Ok(frozen)
    }

    /// Puts back what the entries held.
    pub fn thaw<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, frozen: FrozenTable<F>) {
        for (slot, word) in frozen.words.iter().enumerate() {
            let seen = read::<F, M>(m, g, frozen.table, frozen.table.key_of(frozen.key, slot));
            debug_assert!(seen.pte == Pte::Transition(Transition::Frozen), "a frozen entry changed");
            seen.swap_word(*word);
        }
    }

    /// Puts `leaf` where the table stood, and returns the table, which walks may still be in. `None` if the leaf does not
    /// fit there: the table is still to be thawed.
    pub fn put_leaf<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        frozen: &FrozenTable<F>,
        leaf: Leaf,
    ) -> Option<TableRef> {
        let seen = read::<F, M>(m, g, frozen.parent, frozen.key);
        let fits = leaf.pfn.is_aligned(frozen.order());
        match seen.pte {
            Pte::Table { table, .. } if fits && table == frozen.table.table && seen.swap::<F>(Pte::Leaf(leaf)) => {
                self.frames.fetch_sub(table.order().pages(), Ordering::Relaxed);
                Some(table)
            }
            Pte::Table { .. } | Pte::Hole | Pte::Leaf(_) | Pte::Swapped(_) | Pte::Transition(_) => None,
        }
    }

    /// The table that stands where a leaf of `order` at `key` would, and the one above it.
    fn table_at<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, key: u64, order: Order) -> Option<(Node, Node)> {
        if !in_reach::<F>(key) {
            return None;
        }
        let mut node = Node::root::<F>(self.root)?;
        loop {
            let Seen { pte: Pte::Table { table, bits }, .. } = read::<F, M>(m, g, node, key) else { return None };
            let child = node.child(table, bits)?;
            if node.leaf_order() == order {
                return Some((node, child));
            }
            node = child;
        }
    }
}
