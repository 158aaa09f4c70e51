//! The table of a VM: one of three kinds, of which a machine has one.

use hv_core::addr::{Gfn, GfnRange, Order};
use hv_core::epoch::{Cpu, WalkGuard};
use hv_core::isa::{DirtyMethod, Isa, MapError, SizeRule, Stage2, Unmapped, VmTag};
use hv_core::mmu::census::Census;
use hv_core::mmu::flush::FlushBatch;
use hv_core::mmu::lock::Mapping;
use hv_core::radix::RadixStage2;
use hv_core::radix::format::Pte;

use super::format::{Entries, Forced, Hardware, Trap};
use super::registers;
use crate::features::{Features, Marks};

/// A machine that says what its processors have. All of them have the same.
pub trait Processor {
    /// What they have.
    fn features(&self) -> &Features;
}

/// A VM's second stage.
#[derive(Debug)]
pub struct ArmStage2 {
    table: Table,
    vttbr: u64,
}

#[derive(Debug)]
enum Table {
    Forced(RadixStage2<Entries<Forced>>),
    Hardware(RadixStage2<Entries<Hardware>>),
    Trap(RadixStage2<Entries<Trap>>),
}

/// The same expression for whichever kind it is.
macro_rules! each {
    ($table:expr, $t:ident => $with:expr) => {
        match $table {
            Table::Forced($t) => $with,
            Table::Hardware($t) => $with,
            Table::Trap($t) => $with,
        }
    };
}

impl ArmStage2 {
    /// VTTBR_EL2 for the guest: the root and the VM's tag.
    #[inline]
    #[must_use]
    pub fn vttbr(&self) -> u64 {
        self.vttbr
    }
}

impl<I: Isa<Claim = ()>> Stage2<I> for ArmStage2
where
    I::Machine: Processor,
{
    /// Also `None` if the tag does not fit this processor's VMIDs: a board has to allow no more VMs than those.
    fn create(cpu: &Cpu, m: &I::Machine, tag: VmTag) -> Option<Self> {
        let features = m.features();
        let table = match (features.marks, features.forced_write_back) {
            (Marks::Dirty, true) => Table::Forced(Stage2::<I>::create(cpu, m, tag)?),
            (Marks::Dirty, false) => Table::Hardware(Stage2::<I>::create(cpu, m, tag)?),
            (Marks::None | Marks::Access, _) => Table::Trap(Stage2::<I>::create(cpu, m, tag)?),
        };
        let root = each!(&table, t => t.root());
        match registers::vttbr(features, tag, root) {
            Some(vttbr) => Some(Self { table, vttbr }),
            None => {
                each!(table, t => Stage2::<I>::destroy(t, cpu, m));
                None
            }
        }
    }

    fn destroy(self, cpu: &Cpu, m: &I::Machine) {
        each!(self.table, t => Stage2::<I>::destroy(t, cpu, m));
    }

    fn dirty_method(&self) -> DirtyMethod {
        each!(&self.table, t => Stage2::<I>::dirty_method(t))
    }

    fn size_rule(&self, claim: &()) -> SizeRule {
        each!(&self.table, t => Stage2::<I>::size_rule(t, claim))
    }

    #[inline]
    fn map(&self, g: &WalkGuard<'_>, m: &I::Machine, claim: (), x: Mapping) -> Result<(), MapError> {
        each!(&self.table, t => Stage2::<I>::map(t, g, m, claim, x))
    }

    fn map_run(
        &self,
        g: &WalkGuard<'_>,
        m: &I::Machine,
        claim: (),
        gfns: GfnRange,
        at: impl FnMut(Gfn) -> Option<Mapping>,
    ) -> Result<Gfn, MapError> {
        each!(&self.table, t => Stage2::<I>::map_run(t, g, m, claim, gfns, at))
    }

    fn unmap(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        r: GfnRange,
        f: &mut FlushBatch,
        changed: Option<&mut dyn FnMut(Gfn, Order)>,
    ) -> Unmapped {
        each!(&self.table, t => Stage2::<I>::unmap(t, cpu, m, r, f, changed))
    }

    fn protect(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch) {
        each!(&self.table, t => Stage2::<I>::protect(t, cpu, m, r, f));
    }

    fn collect(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch, changed: &mut dyn FnMut(Gfn, Order)) {
        each!(&self.table, t => Stage2::<I>::collect(t, cpu, m, r, f, changed));
    }

    fn age(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch, noted: &mut dyn FnMut(Gfn, Order)) {
        each!(&self.table, t => Stage2::<I>::age(t, cpu, m, r, f, noted));
    }

    fn table_frames(&self) -> u64 {
        each!(&self.table, t => Stage2::<I>::table_frames(t))
    }

    fn census(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, into: &mut Census) {
        each!(&self.table, t => Stage2::<I>::census(t, cpu, m, r, into));
    }

    fn lookup(&self, cpu: &Cpu, m: &I::Machine, gfn: Gfn) -> Pte {
        each!(&self.table, t => Stage2::<I>::lookup(t, cpu, m, gfn))
    }
}
