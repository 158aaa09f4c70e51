//! What a leaf allows and what hardware noted in it, weakened while hardware uses it.
//!
//! Each change is a compare-and-swap from the word that was decided on: a bit that hardware sets in between makes it fail, and
//! the leaf is looked at again (R4, exhibit E2). What hardware may still do with what it had cached is for a flush to end.
//!
//! A harvest of the dirty log is little else, so the words are not decoded where a format knows a shorter way
//! ([`RadixFormat::protected`]).

use super::Radix;
use crate::addr::Order;
use crate::epoch::WalkGuard;
use crate::isa::RadixFormat;
use crate::machine::Machine;
use crate::radix::format::{Leaf, Pte, Rc, Transition};
use crate::sync::Ordering;

impl<F: RadixFormat> Radix<F> {
    /// Takes write permission, and the marks `along` with it, from every leaf that covers a key of `from..to`; `noted` is told
    /// of those that had it by runs: the first key, the one after the last, the size of each.
    pub fn protect<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        from: u64,
        to: u64,
        along: Rc,
        noted: impl FnMut(u64, u64, Order),
    ) {
        self.weaken(m, g, from, to, |raw, level| F::protected(raw, level, along), noted);
    }

    /// Clears the mark `which` of every leaf that covers a key of `from..to`; `noted` as in [`Radix::protect`].
    pub fn unmark<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        from: u64,
        to: u64,
        which: Rc,
        noted: impl FnMut(u64, u64, Order),
    ) {
        let weaker = |raw, level| match F::decode(raw, level) {
            Pte::Leaf(leaf) if leaf.rc.contains(which) => {
                Some(F::encode(Pte::Leaf(Leaf { rc: leaf.rc.difference(which), ..leaf }), level))
            }
            Pte::Leaf(_) | Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => None,
        };
        self.weaken(m, g, from, to, weaker, noted);
    }

    /// Gives every entry, but tables, that covers a key of `from..to` the word that `weaker` makes of the one that is there,
    /// if it makes one, and tells `noted` of them by runs: the first key, the one after the last, the size of each. A walk
    /// for each table, as in [`Radix::visit`].
    #[inline]
    fn weaken<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        from: u64,
        to: u64,
        weaker: impl Fn(u64, u8) -> Option<u64>,
        mut noted: impl FnMut(u64, u64, Order),
    ) {
        let mut key = from;
        while key < to {
            let Some((node, _)) = self.walk_to(m, g, key) else { return };
            let order = node.leaf_order();
            let (start, first) = (order.align_down(key), node.slot(key));
            let entries = to.saturating_sub(start).div_ceil(order.pages());
            let end = first.saturating_add(usize::try_from(entries).unwrap_or(usize::MAX)).min(node.len());
            let key_of =
                |slot: usize| start.saturating_add((slot.saturating_sub(first) as u64).saturating_mul(order.pages()));
            let (mut slot, mut run) = (first, first);
            while slot < end {
                let cell = m.pte(g, node.table, slot);
                let raw = cell.load(Ordering::Relaxed);
                if let Some(new) = weaker(raw, node.level) {
                    // Relaxed: nothing is published, what the frame holds goes on being seen through the word that stays (a
                    // read-modify-write carries its release on), and the flush that follows orders it before what relies on it.
                    let done = cell.compare_exchange(raw, new, Ordering::Relaxed, Ordering::Relaxed).is_ok();
                    slot = slot.wrapping_add(usize::from(done));
                    continue;
                }
                if run < slot {
                    noted(key_of(run), key_of(slot), order);
                }
                run = slot;
                if slot != first && is_elsewhere::<F>(raw, node.level) {
                    break;
                }
                slot = slot.wrapping_add(1);
                run = slot;
            }
            if run < slot {
                noted(key_of(run), key_of(slot), order);
            }
            key = key_of(slot);
        }
    }
}

/// True if what is there for the key may be in another table.
#[inline(never)]
fn is_elsewhere<F: RadixFormat>(raw: u64, level: u8) -> bool {
    matches!(F::decode(raw, level), Pte::Table { .. } | Pte::Transition(Transition::Frozen))
}
