//! One derived table, changed under its family's lock: what is published there and what is taken away again.

use alloc::sync::Arc;

use super::records::{End, NoMemory, Record, Records};
use super::{Refused, Resolved, Taken, Wish};
use crate::addr::{Gfn, GfnRange, Order, Pfn};
use crate::epoch::{Cpu, WalkGuard};
use crate::host::HUGE;
use crate::isa::{RadixFormat, Unmapped, VmTag};
use crate::machine::Machine;
use crate::mmu::flush::FlushBatch;
use crate::radix::format::{Leaf, Prot, Pte, Rc};
use crate::radix::walk::{Near, Seen};
use crate::radix::{Radix, Stage2Format, Tables};

/// A child.
#[derive(Debug)]
pub(super) struct Child<F> {
    /// Its name in translation caches.
    pub tag: VmTag,
    /// Its table, which hardware walks.
    pub table: Arc<Radix<F>>,
    /// Where the last leaf was published. Tables of a child are freed under the family's lock, by [`Child::clear`].
    near: Near,
}

/// Why nothing was published.
pub(super) enum NotPublished {
    Refused(Refused),
    /// The child has another translation of these frames.
    InWay(GfnRange),
    /// Nobody had looked at the parent before, which has to be marked first, or does not answer.
    Unseen,
}

impl From<NoMemory> for NotPublished {
    fn from(_: NoMemory) -> Self {
        Self::Refused(Refused::NoMemory)
    }
}

impl From<Refused> for NotPublished {
    fn from(why: Refused) -> Self {
        Self::Refused(why)
    }
}

impl<F: Stage2Format> Child<F> {
    /// One that has nothing yet.
    pub fn new(tag: VmTag, table: Arc<Radix<F>>) -> Self {
        Self { tag, table, near: Near::default() }
    }

    /// The section of [`super::Derived::publish`]: the parent is looked at again, and leaf and record appear.
    pub fn publish<P: RadixFormat, M: Machine>(
        &mut self,
        m: &M,
        walk: &WalkGuard<'_>,
        parent: &Radix<P>,
        records: &mut Records,
        r: &Resolved,
    ) -> Result<Order, NotPublished> {
        let Wish { at, from, need, .. } = r.wish;
        let less = || if r.pfn.is_some() { NotPublished::Refused(Refused::Retry) } else { NotPublished::Unseen };
        let above = parent.entry(m, walk, from.0).ok_or_else(less)?;
        let Pte::Leaf(now) = above.pte else { return Err(less()) };
        let pfn = frame(&above, now, from).filter(|pfn| r.pfn.is_none_or(|seen| seen == *pfn)).ok_or_else(less)?;
        let prot = r.prot.intersection(now.prot);
        let rc = r.rc.intersection(now.rc);
        let leaf = settled(Leaf { pfn, prot, rc });
        if !leaf.prot.contains(need) || !leaf.rc.contains(used(need)) {
            return Err(less());
        }
        let seen = self.table.walk_near(m, walk, at.0, &mut self.near).ok_or(Refused::Unfit)?;
        let order = size::<F>(&r.wish, leaf.pfn, above.order.min(seen.order));
        match seen.pte {
            Pte::Hole => {
                let record = Record { child: self.tag, at: at.align_down(order), from: from.align_down(order), order };
                let leaf = Leaf { pfn: leaf.pfn.align_down(order), ..leaf };
                // Nobody else changes the table, so there is but one thing that can be wrong. Nearly always all tables are there.
                let publish = || match seen.order == order && seen.swap::<F>(Pte::Leaf(leaf)) {
                    true => Ok(()),
                    false => self.table.map(m, walk, record.at.0, order, leaf).map_err(|_| NoMemory),
                };
                records.with(record, publish)?;
                Ok(order)
            }
            // More of the same. What it allows already is no more than the parent does: `weaken` saw to that.
            Pte::Leaf(old) if seen.order == order && frame(&seen, old, at) == Some(leaf.pfn) => {
                let new = Leaf { prot: old.prot.union(leaf.prot), rc: old.rc.union(leaf.rc), ..old };
                seen.swap::<F>(Pte::Leaf(new)).then_some(order).ok_or(Refused::Retry.into())
            }
            Pte::Leaf(_) => Err(GfnRange::block(at, seen.order).map_or(Refused::Unfit.into(), NotPublished::InWay)),
            Pte::Table { .. } | Pte::Transition(_) | Pte::Swapped(_) => Err(Refused::Retry.into()),
        }
    }

    /// Removes what the records say of `r`, and the records; flushes.
    pub fn lose<M: Machine>(&self, cpu: &Cpu, m: &M, records: &mut Records, end: End, r: &GfnRange) {
        let mut batch = FlushBatch::new(self.tag);
        records.take(end, r, self.tag, |record| {
            self.change(m, &m.epoch().enter(cpu), record, |_| Pte::Hole);
            note(&mut batch, record);
        });
        flush(m, batch);
    }

    /// Removes all that the records say of this child, the records, and the tables; flushes. Walkers of the child take no lock
    /// inside of their guards, so tables are freed here.
    pub fn clear<M: Machine>(&mut self, cpu: &Cpu, m: &M, records: &mut Records) {
        self.near = Near::default();
        let Some(everything) = GfnRange::new(Gfn(0), u64::MAX) else { return };
        self.lose(cpu, m, records, End::Child, &everything);
        loop {
            let mut batch = FlushBatch::whole(self.tag);
            let end = {
                let mut tables = Tables::new(&mut batch);
                self.table.prune(m, &m.epoch().enter(cpu), 0, u64::MAX, &mut tables);
                tables.end()
            };
            m.flush(batch).release(cpu, m);
            if end == Unmapped::All {
                return;
            }
        }
    }

    /// Takes something away from what the records say of the parent's `r`; flushes.
    pub fn weaken<M: Machine>(&self, cpu: &Cpu, m: &M, records: &Records, r: &GfnRange, taken: Taken) {
        let mut batch = FlushBatch::new(self.tag);
        records.each(End::Parent, r, self.tag, |record| {
            self.change(m, &m.epoch().enter(cpu), record, |leaf| Pte::Leaf(settled(taken.from(leaf))));
            note(&mut batch, record);
        });
        flush(m, batch);
    }

    /// Changes the leaf that a record is about.
    fn change<M: Machine>(&self, m: &M, walk: &WalkGuard<'_>, record: &Record, to: impl Fn(Leaf) -> Pte) {
        while let Some(seen) = self.table.entry(m, walk, record.at.0) {
            let Pte::Leaf(leaf) = seen.pte else {
                debug_assert!(false, "G7: {record:?} is about {:?}", seen.pte);
                return;
            };
            if seen.swap::<F>(to(leaf)) {
                return;
            }
        }
    }
}

/// What an access sets.
pub(super) fn used(need: Prot) -> Rc {
    if need.contains(Prot::WRITE) { Rc::all() } else { Rc::REFERENCED }
}

/// A child's leaf with nothing for hardware to set.
fn settled(leaf: Leaf) -> Leaf {
    let prot = if leaf.rc.contains(Rc::CHANGED) { leaf.prot } else { leaf.prot.difference(Prot::WRITE) };
    Leaf { prot, ..leaf }
}

/// The frame of `gfn`, which `leaf` covers.
pub(super) fn frame(seen: &Seen<'_>, leaf: Leaf, gfn: Gfn) -> Option<Pfn> {
    leaf.pfn.checked_add(gfn.since(gfn.align_down(seen.order))?)
}

/// How large a translation may be that nothing bounds but `most`, the guest's own table, and where it lies.
fn size<F: Stage2Format>(wish: &Wish, pfn: Pfn, most: Order) -> Order {
    let Wish { at, from, order, .. } = *wish;
    let fits = F::LEAVES.contains(HUGE) && HUGE <= order.min(most) && HUGE.aligned((at.0 ^ from.0) | (at.0 ^ pfn.0));
    if fits { HUGE } else { Order::PAGE }
}

/// Calls `f` for each leaf of `table` that covers any of `r`, with the block it covers; again if `f` says that it changed.
pub(super) fn each<F: RadixFormat, M: Machine>(
    m: &M,
    walk: &WalkGuard<'_>,
    table: &Radix<F>,
    r: &GfnRange,
    mut f: impl FnMut(&Seen<'_>, GfnRange, Leaf) -> bool,
) {
    let mut at = r.start();
    while at < r.end() {
        let Some(seen) = table.entry(m, walk, at.0) else { return };
        let Some(block) = GfnRange::block(at, seen.order) else { return };
        let done = if let Pte::Leaf(leaf) = seen.pte { f(&seen, block, leaf) } else { true };
        if done {
            at = block.end();
        }
    }
}

fn note(batch: &mut FlushBatch, record: &Record) {
    if let Some(block) = GfnRange::block(record.at, record.order) {
        batch.note(block, record.order);
    }
}

/// Flushes a batch that holds no tables.
pub(super) fn flush<M: Machine>(m: &M, batch: FlushBatch) {
    drop(m.flush(batch));
}
