//! A whole stage 2 out of one radix format: what every radix backend needs, written once.

use core::cell::Cell;
use core::ops::ControlFlow;

use super::Radix;
use super::edit::{EditError, Removed};
use crate::addr::{Gfn, GfnRange, Order, Orders};
use crate::epoch::{Cpu, WalkGuard};
use crate::isa::{DirtyMethod, Isa, MapError, RadixFormat, SizeRule, Stage2, Unmapped, VmTag};
use crate::machine::Machine;
use crate::mmu::census::Census;
use crate::mmu::flush::FlushBatch;
use crate::mmu::lock::Mapping;
use crate::radix::format::{Leaf, Prot, Pte, Rc, TableRef};

/// What a radix format says beyond its bits, to serve as a stage 2.
pub trait Stage2Format: RadixFormat {
    /// The sizes of its leaves.
    const LEAVES: Orders;
    /// Who sets the reference and change bits of its leaves: hardware by itself; or we, with the translation, all that its
    /// rights can lead to, so that hardware finds nothing to store there.
    fn dirty() -> DirtyMethod;
}

/// A radix table as stage 2. Makes nothing of claims: a radix fault depends on nothing but the address.
#[derive(Debug)]
pub struct RadixStage2<F> {
    table: Radix<F>,
}

impl<F: Stage2Format> RadixStage2<F> {
    /// The root, for the register or structure that tells hardware of it.
    pub fn root(&self) -> TableRef {
        self.table.root()
    }

    /// The table, for what is derived from it ([`crate::mmu::derived`]).
    pub fn table(&self) -> &Radix<F> {
        &self.table
    }

    /// Clears a mark in `r`, and tells `noted` of each leaf that had it.
    fn unmark<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        r: GfnRange,
        which: Rc,
        f: &mut FlushBatch,
        noted: &mut dyn FnMut(Gfn, Order),
    ) {
        self.table.unmark(m, g, r.start().0, r.end().0, which, |from, to, order| {
            note_run(f, from, to, order);
            (from..to).step_by(order.pages() as usize).for_each(|key| noted(Gfn(key), order));
        });
    }
}

impl<I: Isa, F: Stage2Format> Stage2<I> for RadixStage2<F> {
    fn create(cpu: &Cpu, m: &I::Machine, _tag: VmTag) -> Option<Self> {
        Some(Self { table: Radix::new(cpu, m)? })
    }

    fn destroy(self, cpu: &Cpu, m: &I::Machine) {
        // Leaves own nothing: the host table does.
        self.table.destroy(cpu, m, |_, _, _| {});
    }

    fn dirty_method(&self) -> DirtyMethod {
        F::dirty()
    }

    fn size_rule(&self, _: &I::Claim) -> SizeRule {
        SizeRule::AnyOf(F::LEAVES)
    }

    #[inline]
    fn map(&self, g: &WalkGuard<'_>, m: &I::Machine, _: I::Claim, x: Mapping) -> Result<(), MapError> {
        let done = self.table.map(m, g, x.gfn().0, x.order(), leaf_of::<F>(&x));
        done.map_err(|error| refused(error, x.gfn(), x.order()))
    }

    fn map_run(
        &self,
        g: &WalkGuard<'_>,
        m: &I::Machine,
        _: I::Claim,
        gfns: GfnRange,
        mut at: impl FnMut(Gfn) -> Option<Mapping>,
    ) -> Result<Gfn, MapError> {
        let leaf = |key| at(Gfn(key)).map(|x| leaf_of::<F>(&x));
        let done = self.table.map_run(m, g, gfns.start().0, gfns.end().0, leaf);
        done.map(Gfn).map_err(|error| refused(error, gfns.start(), Order::PAGE))
    }

    fn unmap(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        r: GfnRange,
        f: &mut FlushBatch,
        changed: Option<&mut dyn FnMut(Gfn, Order)>,
    ) -> Unmapped {
        let guard = m.epoch().enter(cpu);
        let (from, to) = (r.start().0, r.end().0);
        match changed.filter(|_| F::dirty() == DirtyMethod::HardwareBits) {
            // Leaves always find room, so either reaches the end.
            Some(changed) => {
                let mut leaves = Leaves { batch: f, marks: Rc::CHANGED, tell: Some(changed) };
                self.table.unmap(m, &guard, from, to, &mut leaves);
            }
            None => {
                // Whole leaf tables first, without a look at their leaves: the batch that holds a table flushes the whole VM.
                self.table.detach(m, &guard, from, to, &mut Tables::new(f));
                self.table.unmap(m, &guard, from, to, &mut Leaves { batch: f, marks: Rc::empty(), tell: None });
            }
        }
        let mut tables = Tables::new(f);
        self.table.prune(m, &guard, from, to, &mut tables);
        tables.end()
    }

    fn protect(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch) {
        let guard = m.epoch().enter(cpu);
        // Where C is ours it means "may be stored to": set with the permission, gone with it.
        let along = if F::dirty() == DirtyMethod::WriteProtect { Rc::CHANGED } else { Rc::empty() };
        self.table.protect(m, &guard, r.start().0, r.end().0, along, |from, to, order| note_run(f, from, to, order));
    }

    fn collect(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch, changed: &mut dyn FnMut(Gfn, Order)) {
        let guard = m.epoch().enter(cpu);
        self.unmark(m, &guard, r, Rc::CHANGED, f, changed);
    }

    fn age(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch, noted: &mut dyn FnMut(Gfn, Order)) {
        let guard = m.epoch().enter(cpu);
        match F::dirty() {
            DirtyMethod::HardwareBits => self.unmark(m, &guard, r, Rc::REFERENCED, f, noted),
            DirtyMethod::WriteProtect => {
                let mut used = Leaves { batch: f, marks: Rc::empty(), tell: Some(noted) };
                self.table.unmap(m, &guard, r.start().0, r.end().0, &mut used);
            }
        }
    }

    fn table_frames(&self) -> u64 {
        self.table.frames()
    }

    fn census(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, into: &mut Census) {
        let (mut from, to) = (r.start().0, r.end().0);
        while from < to {
            // A guard for each piece, because invalidators wait for it.
            let mut left = PIECE;
            from = self.table.visit(m, &m.epoch().enter(cpu), from, to, |_, order, _| {
                into.add(order);
                left = left.saturating_sub(1);
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
    }

    fn lookup(&self, cpu: &Cpu, m: &I::Machine, gfn: Gfn) -> Pte {
        self.table.entry(m, &m.epoch().enter(cpu), gfn.0).map_or(Pte::Hole, |seen| seen.pte)
    }
}

/// The leaf that a translation is.
fn leaf_of<F: Stage2Format>(x: &Mapping) -> Leaf {
    Leaf { pfn: x.pfn(), prot: x.prot(), rc: initial_rc::<F>(x.prot()) }
}

/// The reference and change bits that a new translation begins with.
#[inline]
fn initial_rc<F: Stage2Format>(prot: Prot) -> Rc {
    match F::dirty() {
        DirtyMethod::HardwareBits => Rc::empty(),
        DirtyMethod::WriteProtect if prot.contains(Prot::WRITE) => Rc::all(),
        DirtyMethod::WriteProtect => Rc::REFERENCED,
    }
}

/// Why a translation of `order` was not published at `gfn`.
fn refused(error: EditError, gfn: Gfn, order: Order) -> MapError {
    match error {
        EditError::NoTable => MapError::NoTable,
        EditError::Retry => MapError::Retry,
        EditError::TableInWay => MapError::TableInWay(order),
        EditError::LeafInWay(large) => MapError::LeafInWay(large),
        EditError::Unfit | EditError::Occupied => {
            debug_assert!(false, "a translation of {order:?} at {gfn:?} does not fit what is there: {error:?}");
            MapError::Retry
        }
    }
}

fn note(f: &mut FlushBatch, key: u64, order: Order) {
    note_run(f, key, key.saturating_add(order.pages()), order);
}

/// Notes leaves of `order` side by side.
fn note_run(f: &mut FlushBatch, from: u64, to: u64, order: Order) {
    if let Some(gfns) = to.checked_sub(from).and_then(|pages| GfnRange::new(Gfn(from), pages)) {
        f.note(gfns, order);
    }
}

/// Leaves that one guard's walk of a census counts.
const PIECE: u32 = 512;

/// Removed leaves, one by one: the batch notes each, and who wants to is told of those with these marks. One type for all who
/// remove leaves, because each makes a copy of the walk.
struct Leaves<'a> {
    batch: &'a mut FlushBatch,
    marks: Rc,
    tell: Option<&'a mut dyn FnMut(Gfn, Order)>,
}

impl Removed for Leaves<'_> {
    fn room(&self) -> bool {
        true
    }
    fn leaf(&mut self, key: u64, order: Order, leaf: Leaf) {
        note(self.batch, key, order);
        if let Some(tell) = &mut self.tell
            && leaf.rc.contains(self.marks)
        {
            tell(Gfn(key), order);
        }
    }
    fn table(&mut self, _table: TableRef) {
        debug_assert!(false, "removing leaves does not unlink tables");
    }
}

/// Unlinked tables: the batch keeps them until the flush and a grace period are over. When it has no more room the
/// remaining tables stay linked, and the caller is told.
pub(crate) struct Tables<'f> {
    batch: &'f mut FlushBatch,
    end: Cell<Unmapped>,
}

impl<'f> Tables<'f> {
    /// They go to this batch.
    pub(crate) fn new(batch: &'f mut FlushBatch) -> Self {
        Self { batch, end: Cell::new(Unmapped::All) }
    }

    /// Whether all were unlinked.
    pub(crate) fn end(&self) -> Unmapped {
        self.end.get()
    }
}

impl Removed for Tables<'_> {
    fn room(&self) -> bool {
        let room = self.batch.room();
        if !room {
            self.end.set(Unmapped::TablesLeft);
        }
        room
    }
    fn leaf(&mut self, _key: u64, _order: Order, _leaf: Leaf) {
        debug_assert!(false, "unlinking empty tables does not remove leaves");
    }
    fn table(&mut self, table: TableRef) {
        let kept = self.batch.hold(table);
        debug_assert!(kept.is_ok(), "room() was not asked");
    }
}
