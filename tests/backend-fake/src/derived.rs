//! Tables derived from another second stage: the hardware that runs on them, and what must be true of them at rest.

use hv_core::addr::{Gfn, GfnRange, Order};
use hv_core::epoch::Cpu;
use hv_core::isa::VmTag;
use hv_core::machine::Machine;
use hv_core::mmu::derived::{Derived, Record};
use hv_core::radix::Radix;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc};

use crate::agent::Agent;
use crate::check::Translation;
use crate::format::Skewed;
use crate::machine::FakeMachine;
use crate::walk::{View, leaves};

impl FakeMachine {
    /// What the CPUs' hardware can do with a table that is nobody's second stage.
    pub fn agent_on(&self, table: &Radix<Skewed>, tag: VmTag) -> Agent<'_> {
        Agent::new(self, tag, View::Radix(table.root()))
    }

    /// Checks a table derived from `parent`, with nobody at work on either, and notes down what it finds: G2, G3, G5, G7, and
    /// R9 where a CPU holds what the child no longer has. `shown` is the guest's own table: what it has at a child's address.
    pub fn check_child(
        &self,
        cpu: &Cpu,
        derived: &Derived<Skewed>,
        parent: &Radix<Skewed>,
        (child, tag): (&Radix<Skewed>, VmTag),
        shown: impl Fn(Gfn) -> Option<Gfn>,
    ) {
        let mut records: Vec<Record> = Vec::new();
        derived.records(cpu, |record| records.extend((record.child == tag).then_some(*record)));
        let mapped = leaves(&self.ram, View::Radix(child.root()));
        for found in &mapped {
            let about = |record: &&Record| (record.at, record.order) == (found.gfn, found.order);
            let why = match records.iter().filter(about).collect::<Vec<_>>()[..] {
                [record] if shown(record.at) != Some(record.from) => {
                    Err("G2: the guest's own table has something else")
                }
                [record] => self.derives(cpu, parent, record.from, found),
                _ => Err("G7: it has not one record"),
            };
            if let Err(why) = why {
                self.ram.violation(format!("{why}, but the child has {found:?}"));
            }
        }
        if records.len() != mapped.len() {
            self.ram.violation(format!("G7: {} records of {} leaves", records.len(), mapped.len()));
        }
        for (holder, entry) in self.caches.of(tag) {
            let found = Translation { gfn: entry.gfn, order: entry.order, leaf: entry.leaf };
            if !mapped.iter().any(|leaf| leaf.includes(&found)) {
                self.ram.violation(format!("R9: {holder:?} holds {entry:?}, which the child no longer has"));
            }
        }
    }

    /// Is all that the child has there also the parent's?
    fn derives(&self, cpu: &Cpu, parent: &Radix<Skewed>, from: Gfn, found: &Translation) -> Result<(), &'static str> {
        let guard = self.epoch().enter(cpu);
        let seen = parent.walk(self, &guard, from.0).ok_or("G2: the parent has no such address")?;
        let Pte::Leaf(Leaf { pfn, prot, rc }) = seen.pte else { return Err("G2: the parent has nothing there") };
        let block = GfnRange::block(from, seen.order).ok_or("G3: no block ends there")?;
        let Translation { order, leaf, .. } = *found;
        match () {
            () if order > seen.order => Err("G3: the parent's leaf is smaller"),
            () if pfn.0 + (from.0 - block.start().0) != leaf.pfn.0 => Err("G2: the parent has another frame"),
            () if !prot.contains(leaf.prot) => Err("G2: the parent allows less"),
            () if !rc.contains(leaf.rc) => Err("G5: R or C is set that the parent has not"),
            () if !leaf.rc.contains(Rc::REFERENCED) => Err("G5: hardware has R to set"),
            () if leaf.prot.contains(Prot::WRITE) && !leaf.rc.contains(Rc::CHANGED) => Err("G5: hardware has C to set"),
            () if order > Order::PAGE && !(from.is_aligned(order) && leaf.pfn.is_aligned(order)) => {
                Err("G3: the addresses do not agree modulo the size")
            }
            () => Ok(()),
        }
    }
}
