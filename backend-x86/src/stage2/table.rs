//! The table of a VM: one of three kinds, of which a machine has one.

use hv_core::addr::{Gfn, GfnRange, Order, Orders};
use hv_core::epoch::{Cpu, WalkGuard};
use hv_core::isa::{DirtyMethod, Isa, MapError, SizeRule, Stage2, Unmapped, VmTag};
use hv_core::mmu::census::Census;
use hv_core::mmu::flush::FlushBatch;
use hv_core::mmu::lock::Mapping;
use hv_core::radix::RadixStage2;
use hv_core::radix::format::Pte;

use super::format::{Entries, EptMarks, EptTrap, Npt};
use super::pointer::{eptp, nested_cr3};
use crate::features::{Features, Nested};

/// A machine that says what its processors have. All of them have the same.
pub trait Processor {
    /// What they have.
    fn features(&self) -> &Features;
}

/// A VM's second stage.
#[derive(Debug)]
pub struct X86Stage2 {
    table: Table,
    pointer: u64,
    leaves: Orders,
}

#[derive(Debug)]
enum Table {
    EptMarks(RadixStage2<Entries<EptMarks>>),
    EptTrap(RadixStage2<Entries<EptTrap>>),
    Npt(RadixStage2<Entries<Npt>>),
}

/// The same expression for whichever kind it is.
macro_rules! each {
    ($table:expr, $t:ident => $with:expr) => {
        match $table {
            Table::EptMarks($t) => $with,
            Table::EptTrap($t) => $with,
            Table::Npt($t) => $with,
        }
    };
}

impl X86Stage2 {
    /// What the guest's control structure holds: the EPT pointer, or nCR3.
    #[inline]
    #[must_use]
    pub fn pointer(&self) -> u64 {
        self.pointer
    }
}

impl<I: Isa<Claim = ()>> Stage2<I> for X86Stage2
where
    I::Machine: Processor,
{
    fn create(cpu: &Cpu, m: &I::Machine, tag: VmTag) -> Option<Self> {
        let features = m.features();
        let table = match features.nested() {
            Nested::EptMarks => Table::EptMarks(Stage2::<I>::create(cpu, m, tag)?),
            Nested::EptTrap => Table::EptTrap(Stage2::<I>::create(cpu, m, tag)?),
            Nested::Npt => Table::Npt(Stage2::<I>::create(cpu, m, tag)?),
        };
        let root = each!(&table, t => t.root());
        let pointer = match table {
            Table::EptMarks(_) => eptp(root, DirtyMethod::HardwareBits),
            Table::EptTrap(_) => eptp(root, DirtyMethod::WriteProtect),
            Table::Npt(_) => nested_cr3(root),
        };
        Some(Self { table, pointer, leaves: features.leaves() })
    }

    fn destroy(self, cpu: &Cpu, m: &I::Machine) {
        each!(self.table, t => Stage2::<I>::destroy(t, cpu, m));
    }

    fn dirty_method(&self) -> DirtyMethod {
        each!(&self.table, t => Stage2::<I>::dirty_method(t))
    }

    /// The formats have leaves that not every processor has.
    fn size_rule(&self, (): &()) -> SizeRule {
        SizeRule::AnyOf(self.leaves)
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
