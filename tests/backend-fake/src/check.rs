//! What must be true of one VM where nothing is in flight: no fault, no invalidation, no access.
//!
//! Everything that stage 2 holds and everything that any CPU has cached of it is held against the host table. Stage 2 is
//! read as hardware reads it, so a leaf outside every slot is found too.

use hv_core::addr::{Gfn, GfnRange, Hvn, HvnRange, Order, Pfn};
use hv_core::epoch::Cpu;
use hv_core::host::Peek;
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::mmu::Space;
use hv_core::radix::format::Leaf;

use crate::machine::FakeMachine;
use crate::own::Own;
use crate::stage2::FakeStage2;
use crate::walk::leaves;

/// A translation, wherever it was found.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    /// First guest frame.
    pub gfn: Gfn,
    /// Size.
    pub order: Order,
    /// What it says.
    pub leaf: Leaf,
}

impl Translation {
    /// True if whatever `other` allows is also found through this one.
    pub fn includes(&self, other: &Self) -> bool {
        other.order <= self.order
            && other.gfn.align_down(self.order) == self.gfn
            && Pfn(self.leaf.pfn.0 + (other.gfn.0 - self.gfn.0)) == other.leaf.pfn
            && self.leaf.prot.contains(other.leaf.prot)
    }
}

impl FakeMachine {
    /// Checks a VM that is at rest, and notes down what it finds: G2, G3, G7, G8, and R9 where a CPU holds what the table no longer
    /// has. Guests may have begun accesses that will fault, and nothing else may be going on.
    pub fn check<I>(&self, cpu: &Cpu, space: &Space<I>)
    where
        I: Isa<Machine = Self>,
        I::Stage2: FakeStage2,
    {
        let _own = Own::begin();
        let everything = HvnRange::new(Hvn(0), u64::MAX).expect("all host pages are some");
        if space.mmu.enter(cpu, self.epoch()).revalidate(space.mmu.sample(), everything).is_err() {
            self.ram.violation("G8: a bracket is open where nothing is in flight".to_owned());
        }
        for fault in space.stage2.faults_at_rest(cpu, self) {
            self.ram.violation(fault);
        }
        let mapped = leaves(&self.ram, space.stage2.view());
        for found in &mapped {
            if let Err(why) = self.agrees(cpu, space, found) {
                self.ram.violation(format!("{why}, but stage 2 has {found:?}"));
            }
        }
        for (holder, entry) in self.caches.of(space.tag) {
            let found = Translation { gfn: entry.gfn, order: entry.order, leaf: entry.leaf };
            if let Err(why) = self.agrees(cpu, space, &found) {
                self.ram.violation(format!("{why}, but {holder:?} holds {entry:?}"));
            } else if !mapped.iter().any(|leaf| leaf.includes(&found)) {
                self.ram.violation(format!("R9: {holder:?} holds {entry:?}, which stage 2 no longer has"));
            }
        }
    }

    /// Does the host table say the same?
    fn agrees<I: Isa<Machine = Self>>(&self, cpu: &Cpu, space: &Space<I>, t: &Translation) -> Result<(), String> {
        let guard = self.epoch().enter(cpu);
        let block = GfnRange::block(t.gfn, t.order).ok_or("G3: no block ends there")?;
        let slot = space.slots.find(&guard, t.gfn).ok_or("G2: no slot is there")?;
        let hvn = slot.hvn(t.gfn).ok_or("G2: no slot is there")?;
        if !slot.gfns().covers(&block) {
            return Err(format!("G3: the slot has only {:?} of the block", slot.gfns()));
        }
        match space.host.peek(self, &guard, hvn) {
            Peek::Page(page) if page.order < t.order => Err(format!("G3: the host leaf is of {:?}", page.order)),
            Peek::Page(page) if page.pfn != t.leaf.pfn => Err(format!("G2: the host table has {:?}", page.pfn)),
            Peek::Page(page) if !page.prot.intersection(slot.prot()).contains(t.leaf.prot) => {
                Err(format!("G2: slot and host table allow {:?} and {:?}", slot.prot(), page.prot))
            }
            Peek::Page(page) if hvn.is_aligned(t.order) && page.pfn.is_aligned(t.order) => Ok(()),
            Peek::Page(page) => {
                Err(format!("G3: {:?}, {hvn:?} and {:?} do not agree modulo the size", t.gfn, page.pfn))
            }
            other @ (Peek::Absent | Peek::Swapped | Peek::Retry | Peek::OutOfReach) => {
                Err(format!("G2: the host table has {other:?}"))
            }
        }
    }
}
