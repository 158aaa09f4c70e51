//! Trivet's own table: `Radix` as host table and second stage use it, safe for any number of CPUs.

use std::num::NonZeroU16;

use hv_core::addr::{Order, Pfn};
use hv_core::epoch::{Cpu, WalkGuard};
use hv_core::host::HostFormat;
use hv_core::isa::{RadixFormat, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;
use hv_core::radix::Radix;
use hv_core::radix::edit::Removed;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef};

use crate::subject::{BATCH, Pages, Subject};
use bench_host::machine::BenchMachine;

/// A table of format `F`, the machine that it lies in, and the one CPU that uses it.
pub struct Trivet<F = HostFormat> {
    cpu: Cpu,
    machine: &'static BenchMachine,
    table: Radix<F>,
}

/// An open walk.
pub struct Walk<'a, F> {
    guard: WalkGuard<'a>,
    machine: &'static BenchMachine,
    table: &'a Radix<F>,
}

/// The last leaf that was removed.
struct Last(u64);

impl Removed for Last {
    fn room(&self) -> bool {
        true
    }

    fn leaf(&mut self, _key: u64, _order: Order, leaf: Leaf) {
        self.0 = leaf.pfn.0;
    }

    fn table(&mut self, _table: TableRef) {}
}

/// Tables that were unlinked.
struct Tables<'b>(&'b mut FlushBatch);

impl Removed for Tables<'_> {
    fn room(&self) -> bool {
        self.0.room()
    }

    fn leaf(&mut self, _key: u64, _order: Order, _leaf: Leaf) {}

    fn table(&mut self, table: TableRef) {
        self.0.hold(table).expect("room was asked for");
    }
}

impl<F: RadixFormat> Trivet<F> {
    /// An empty one, on a machine of its own.
    pub fn new(cpu: Cpu, machine: &'static BenchMachine) -> Self {
        let table = Radix::new(&cpu, machine).expect("a root");
        Self { cpu, machine, table }
    }
}

impl<F: RadixFormat> Subject for Trivet<F> {
    type Batch<'a> = Walk<'a, F>;

    fn batch(&mut self) -> Walk<'_, F> {
        Walk { guard: self.machine.epoch().enter(&self.cpu), machine: self.machine, table: &self.table }
    }

    fn map_range(&mut self, key: u64, pfn: u64, pages: u64) {
        // As ranges of guest memory are mapped: at most so many pages in one section.
        for start in (0..pages).step_by(BATCH as usize) {
            let walk = self.batch();
            let (from, to) = (key + start, key + pages.min(start + BATCH));
            let done = walk.table.map_run(walk.machine, &walk.guard, from, to, |at| {
                Some(Leaf { pfn: Pfn(pfn + (at - key)), prot: Prot::READ.union(Prot::WRITE), rc: Rc::all() })
            });
            assert_eq!(done, Ok(to));
        }
    }

    fn unmap_range(&mut self, key: u64, pages: u64) {
        // As stage 2 does: as many tables as a batch holds, then a flush and a grace period, until none is left.
        loop {
            let mut batch = FlushBatch::new(VmTag(NonZeroU16::MIN));
            let guard = self.machine.epoch().enter(&self.cpu);
            self.table.detach(self.machine, &guard, key, key + pages, &mut Tables(&mut batch));
            drop(guard);
            let full = !batch.room();
            self.machine.flush(batch).release(&self.cpu, self.machine);
            if !full {
                return;
            }
        }
    }
}

impl<F: RadixFormat> Pages for Walk<'_, F> {
    #[inline]
    fn map(&mut self, key: u64, pfn: u64) {
        let leaf = Leaf { pfn: Pfn(pfn), prot: Prot::READ.union(Prot::WRITE), rc: Rc::all() };
        self.table.map(self.machine, &self.guard, key, Order::PAGE, leaf).expect("nothing is mapped there");
    }

    #[inline]
    fn look_up(&self, key: u64) -> u64 {
        match self.table.walk(self.machine, &self.guard, key).map(|seen| seen.pte) {
            Some(Pte::Leaf(leaf)) => leaf.pfn.0,
            _ => panic!("not mapped"),
        }
    }

    #[inline]
    fn unmap(&mut self, key: u64) -> u64 {
        let mut last = Last(u64::MAX);
        self.table.unmap(self.machine, &self.guard, key, key + 1, &mut last);
        last.0
    }
}
