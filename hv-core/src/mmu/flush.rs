//! What must leave the translation caches, and what may be freed only then.
//!
//! Flow: [`FlushBatch`] collects while tables are edited; [`crate::machine::Machine::flush`] makes every CPU forget what
//! it names and turns it into [`Flushed`]; [`Flushed::release`] waits for walkers and frees what the batch held back.
//! Neither may be dropped: the compiler warns, and the dev profile stops.

use heapless::Vec;

use crate::addr::{GfnRange, Order};
use crate::epoch::Cpu;
use crate::isa::VmTag;
use crate::machine::Machine;
use crate::radix::format::TableRef;

/// Ranges a batch names one by one; beyond that it names the whole VM.
const RANGES: usize = 8;
/// Tables a batch can hold back without heap.
const TABLES: usize = 16;
/// Tables it holds back in heap, if there is any: with leaf tables of 2 MiB, one flush for 8 GiB.
const MORE: usize = 4096;

/// Translations of one range that were made by leaves of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushRange {
    /// The guest frames.
    pub gfns: GfnRange,
    /// The size of the removed leaves: the stride, on machines that flush address by address.
    pub order: Order,
}

/// How much must be flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Nothing was removed.
    Nothing,
    /// Leaf translations of these ranges.
    Ranges(&'a [FlushRange]),
    /// Everything cached for the VM, intermediate entries (walk caches) included.
    Vm,
}

/// Work for a flush, of one VM.
#[derive(Debug)]
#[must_use = "a batch is given to Machine::flush"]
pub struct FlushBatch {
    tag: VmTag,
    ranges: Vec<FlushRange, RANGES>,
    whole: bool,
    held: Held,
}

/// The receipt of a completed flush; holds what may now be freed after a grace period.
#[derive(Debug)]
#[must_use = "the receipt frees what the flush held back"]
pub struct Flushed {
    tag: VmTag,
    held: Held,
}

/// Tables that were unlinked and may still be walked.
#[derive(Debug, Default)]
struct Held {
    first: Vec<TableRef, TABLES>,
    /// Always grown ahead, so that a look tells if there is room.
    more: alloc::vec::Vec<TableRef>,
}

impl Held {
    fn room(&self) -> bool {
        !self.first.is_full() || self.more.len() < self.more.capacity().min(MORE)
    }

    fn push(&mut self, table: TableRef) -> Result<(), TableRef> {
        if !self.room() {
            return Err(table);
        }
        if let Err(table) = self.first.push(table) {
            self.more.push(table);
        }
        if !self.room() {
            self.grow();
        }
        Ok(())
    }

    /// Without heap there is no more room, and the range takes more than one flush.
    #[cold]
    fn grow(&mut self) {
        if self.more.len() < MORE {
            let _: Result<(), _> = self.more.try_reserve(self.more.len().max(TABLES));
        }
    }

    fn pop(&mut self) -> Option<TableRef> {
        self.more.pop().or_else(|| self.first.pop())
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.more.is_empty()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        debug_assert!(self.is_empty(), "tables held back for a flush were lost");
    }
}

impl FlushBatch {
    /// Nothing to flush yet, for the VM with this tag.
    pub fn new(tag: VmTag) -> Self {
        Self { tag, ranges: Vec::new(), whole: false, held: Held::default() }
    }

    /// Everything that is cached for the VM.
    pub fn whole(tag: VmTag) -> Self {
        Self { whole: true, ..Self::new(tag) }
    }

    /// Notes that leaves of `order` were removed or weakened in `gfns`; the range is that of the leaves themselves.
    pub fn note(&mut self, gfns: GfnRange, order: Order) {
        if let Some(last) = self.ranges.last_mut()
            && last.order == order
            && last.gfns.end() == gfns.start()
        {
            last.gfns = last.gfns.hull(&gfns);
        } else if self.ranges.push(FlushRange { gfns, order }).is_err() {
            self.whole = true;
        }
    }

    /// True if [`FlushBatch::hold`] has room for another table.
    #[must_use]
    pub fn room(&self) -> bool {
        self.held.room()
    }

    /// Keeps an unlinked table until nobody can be in it. Ask [`FlushBatch::room`] before unlinking; without room the
    /// table comes back.
    pub fn hold(&mut self, table: TableRef) -> Result<(), TableRef> {
        // Its address may sit in walk caches, which ranges do not reach.
        self.whole = true;
        self.held.push(table)
    }

    /// Whose translations.
    #[must_use]
    pub fn tag(&self) -> VmTag {
        self.tag
    }

    /// What to flush.
    #[must_use]
    pub fn scope(&self) -> Scope<'_> {
        if self.whole {
            Scope::Vm
        } else if self.ranges.is_empty() {
            Scope::Nothing
        } else {
            Scope::Ranges(&self.ranges)
        }
    }

    /// The receipt. Called by implementations of [`Machine::flush`] only, once no CPU holds what the scope names.
    pub fn completed(self) -> Flushed {
        Flushed { tag: self.tag, held: self.held }
    }
}

impl Flushed {
    /// Whose translations were flushed.
    #[must_use]
    pub fn tag(&self) -> VmTag {
        self.tag
    }

    /// Frees what the batch held back, after a grace period. The caller holds no lock that a walker may want.
    pub fn release<M: Machine>(mut self, cpu: &Cpu, m: &M) {
        if self.held.is_empty() {
            return;
        }
        let grace = m.epoch().synchronize(cpu);
        while let Some(table) = self.held.pop() {
            m.free_table(cpu, grace.retire(table));
        }
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU16;

    use super::{FlushBatch, FlushRange, MORE, RANGES, Scope, TABLES};
    use crate::addr::{Gfn, GfnRange, Order, Pfn};
    use crate::isa::VmTag;
    use crate::radix::format::TableRef;

    fn page(n: u64) -> GfnRange {
        GfnRange::new(Gfn(n), 1).unwrap()
    }

    fn batch() -> FlushBatch {
        FlushBatch::new(VmTag(NonZeroU16::MIN))
    }

    #[test]
    fn r9_neighbours_merge_and_overflow_widens_to_the_vm() {
        let mut b = batch();
        assert_eq!(b.scope(), Scope::Nothing);
        for n in 10..20 {
            b.note(page(n), Order::PAGE);
        }
        let gfns = GfnRange::new(Gfn(10), 10).unwrap();
        assert_eq!(b.scope(), Scope::Ranges(&[FlushRange { gfns, order: Order::PAGE }]));
        for n in 0..RANGES as u64 {
            b.note(page(100 + 2 * n), Order::PAGE);
        }
        assert_eq!(b.scope(), Scope::Vm, "a range that found no room must not be forgotten");
        drop(b.completed());
    }

    #[test]
    fn r9_removing_a_table_drops_walk_caches() {
        let mut b = batch();
        b.note(page(1), Order::PAGE);
        let table = TableRef::new(Pfn(5), Order::PAGE);
        b.hold(table).unwrap();
        assert_eq!(b.scope(), Scope::Vm);
        let mut held = 1;
        while b.room() {
            b.hold(table).unwrap();
            held += 1;
        }
        assert_eq!(held, TABLES + MORE, "a range of 8 GiB takes more than one flush");
        assert_eq!(b.hold(table), Err(table));
        assert_eq!(core::iter::from_fn(|| b.held.pop()).count(), held, "a table was lost");
        drop(b.completed());
    }
}
