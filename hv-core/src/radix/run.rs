//! Pages one after the other, published a table at a time.
//!
//! ```text
//!   no table there: taken, filled with stores where nobody sees it, then CAS hole -> table (R19)
//!       lost to another table: given back; the winner is looked at
//!   a table there:  each entry by CAS, with one walk for all of them
//!       an entry that is no hole, or frozen: from the root, as a single page
//! ```
//!
//! Between the look at a table and the CAS of its entries it may be unlinked: what `prune` unlinks is frozen before, and
//! what `detach` unlinks goes with all that comes into it (stage 2: nothing, since a section tests for its bracket).

use core::ops::Range;

use super::Radix;
use super::edit::EditError;
use super::walk::{Node, Seen, look, mask};
use crate::addr::Order;
use crate::epoch::{WalkGuard, never_published};
use crate::isa::RadixFormat;
use crate::machine::Machine;
use crate::radix::format::{Leaf, Pte, TableRef};
use crate::sync::Ordering;

/// How far a step came, and what is next.
enum Step {
    /// Go on from there.
    On(u64),
    /// No leaf is given for that key.
    Out(u64),
}

impl<F: RadixFormat> Radix<F> {
    /// Publishes the leaves that `leaf` gives for the keys of `from..to`, each of one page, until it gives none; it may be
    /// asked for a key more than once. Returns the key to go on from; an error only if it is about the first.
    ///
    /// Each is published as [`Radix::map`] would.
    pub fn map_run<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        from: u64,
        to: u64,
        mut leaf: impl FnMut(u64) -> Option<Leaf>,
    ) -> Result<u64, EditError> {
        let span = *F::BITS.first().ok_or(EditError::Unfit)?;
        let span = Order::new(span).ok_or(EditError::Unfit)?;
        let mut key = from;
        while key < to {
            let (node, seen) = self.entry_in(m, g, key).ok_or(EditError::Unfit)?;
            // A table at a time.
            let end = span.align_down(key).saturating_add(span.pages()).min(to);
            let step = match (node.level, seen.pte) {
                (0, _) => self.map_each(m, g, node, key..end, &mut leaf),
                (1, Pte::Hole) => self.plant(m, g, &seen, key..end, &mut leaf),
                // No table for a leaf table, a large leaf, a transition.
                _ => match leaf(key) {
                    Some(page) => {
                        self.map_from_root(m, g, key, Order::PAGE, page).map(|()| Step::On(key.wrapping_add(1)))
                    }
                    None => Ok(Step::Out(key)),
                },
            };
            match step {
                Ok(Step::On(next)) => key = next,
                Ok(Step::Out(next)) => return Ok(next),
                Err(error) if key == from => return Err(error),
                Err(_) => return Ok(key),
            }
        }
        Ok(key)
    }

    /// Into a table that is there. What was published before an error stays.
    fn map_each<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        node: Node,
        keys: Range<u64>,
        leaf: &mut impl FnMut(u64) -> Option<Leaf>,
    ) -> Result<Step, EditError> {
        let first = keys.start;
        for key in keys.clone() {
            let Some(page) = leaf(key) else { return Ok(Step::Out(key)) };
            let seen = look::<F, M>(m, g, node, key);
            if seen.pte == Pte::Hole && seen.swap::<F>(Pte::Leaf(page)) {
                continue;
            }
            match self.map_from_root(m, g, key, Order::PAGE, page) {
                Ok(()) => {}
                Err(error) if key == first => return Err(error),
                Err(_) => return Ok(Step::On(key)),
            }
        }
        Ok(Step::On(keys.end))
    }

    /// With a new leaf table in the hole `seen`. After a lost race, goes on from where it began.
    fn plant<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        seen: &Seen<'_>,
        keys: Range<u64>,
        leaf: &mut impl FnMut(u64) -> Option<Leaf>,
    ) -> Result<Step, EditError> {
        if leaf(keys.start).is_none() {
            return Ok(Step::Out(keys.start));
        }
        let bits = *F::BITS.first().ok_or(EditError::Unfit)?;
        let order = TableRef::order_of(bits).ok_or(EditError::Unfit)?;
        // As in `grow`: nothing has been changed yet.
        let cpu = g.cpu().ok_or(EditError::NoTable)?;
        let table = m.alloc_table(cpu, order).ok_or(EditError::NoTable)?;
        let slot = |key: u64| (key & mask(bits)) as usize;
        let mut step = Step::On(keys.end);
        for key in keys.clone() {
            let Some(page) = leaf(key) else {
                step = Step::Out(key);
                break;
            };
            // Nobody sees it yet; the CAS below releases these stores.
            m.pte(g, table, slot(key)).store(F::encode(Pte::Leaf(page), 0), Ordering::Relaxed);
        }
        if seen.swap::<F>(Pte::Table { table, bits }) {
            self.frames.fetch_add(order.pages(), Ordering::Relaxed);
            Ok(step)
        } else {
            m.free_table(cpu, never_published(table));
            Ok(Step::On(keys.start))
        }
    }
}
