//! Replacing one large leaf by a table of smaller ones that translate to the same frames.
//!
//! ```text
//!   split                                        others
//!   take a table; nobody sees it
//!   CAS leaf -> Splitting             (R3, R4)   a walk that read the leaf goes on with it: the frames stay the same
//!     fill the table from the word that the      a walk now: Transition, it retries
//!     CAS replaced                               a claim (rights, reference bits) of the old word: its CAS fails
//!   CAS Splitting -> table            (R19)      a walk now: the table is whole, and so is what it finds there
//! ```
//!
//! The mark comes before the small entries are made. Made from a value read earlier they would lack what a claim added
//! in between (exhibit A11b): the mark is what makes that claim fail and look again.
//!
//! No frame changes hands here. The caller keeps structural changes of the table apart, and has opened a bracket over
//! the whole leaf if larger translations are derived from it (G3).

use super::Radix;
use super::edit::EditError;
use super::walk::fill;
use crate::addr::{Order, Pfn};
use crate::epoch::{WalkGuard, never_published};
use crate::isa::RadixFormat;
use crate::machine::Machine;
use crate::radix::format::{Leaf, Pte, TableRef, Transition};
use crate::sync::Ordering;

/// What a split came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// One leaf gave way to smaller ones.
    Done {
        /// The size that it had.
        large: Order,
        /// The size that they have.
        small: Order,
    },
    /// No leaf larger than the wanted order covers the key.
    Nothing,
}

impl<F: RadixFormat> Radix<F> {
    /// Splits the leaf that covers `key`, by one level, if it is larger than `wanted`. Call it until it answers
    /// [`Split::Nothing`]. Without memory for a table everything is as it was.
    pub fn split<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, key: u64, wanted: Order) -> Result<Split, EditError> {
        loop {
            let seen = self.walk(m, g, key).ok_or(EditError::Unfit)?;
            let leaf = match seen.pte {
                Pte::Leaf(leaf) if seen.order > wanted => leaf,
                Pte::Leaf(_) | Pte::Hole | Pte::Swapped(_) => return Ok(Split::Nothing),
                Pte::Table { .. } | Pte::Transition(_) => return Err(EditError::Retry),
            };
            let level = seen.level.checked_sub(1).ok_or(EditError::Unfit)?;
            let bits = *F::BITS.get(usize::from(level)).ok_or(EditError::Unfit)?;
            let order = TableRef::order_of(bits).ok_or(EditError::Unfit)?;
            let cpu = g.cpu().ok_or(EditError::NoTable)?;
            let small = seen.order.get().checked_sub(bits).and_then(Order::new).ok_or(EditError::Unfit)?;
            let table = m.alloc_table_to_fill(cpu, order).ok_or(EditError::NoTable)?;
            let Some(marked) = seen.replace::<F>(Pte::Transition(Transition::Splitting)) else {
                m.free_table(cpu, never_published(table));
                continue;
            };
            small_leaves::<F, M>(m, g, table, (level, bits, small), leaf);
            // Only the CPU that marked an entry changes it.
            let done = marked.swap::<F>(Pte::Table { table, bits });
            debug_assert!(done, "an entry marked as splitting was changed by somebody else");
            self.frames.fetch_add(order.pages(), Ordering::Relaxed);
            return Ok(Split::Done { large: seen.order, small });
        }
    }
}

/// Fills a table at `level` with `2^bits` entries, which nobody sees yet, with leaves of order `small` for what one leaf
/// above it translates to.
#[inline(always)]
fn small_leaves<F: RadixFormat, M: Machine>(
    m: &M,
    g: &WalkGuard<'_>,
    table: TableRef,
    (level, bits, small): (u8, u8, Order),
    leaf: Leaf,
) {
    let Leaf { mut pfn, prot, rc } = leaf;
    fill(m, g, table, bits, move || {
        let word = F::encode(Pte::Leaf(Leaf { pfn, prot, rc }), level);
        // Inside the large leaf; past its end nobody looks.
        pfn = Pfn(pfn.0.wrapping_add(small.pages()));
        word
    });
}
