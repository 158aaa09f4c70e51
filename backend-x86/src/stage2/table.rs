//! The table of a VM: one of three kinds, of which a machine has one.

use hv_core::addr::Orders;
use hv_core::epoch::Cpu;
use hv_core::isa::{DirtyMethod, Isa, SizeRule, Stage2, VmTag};
use hv_core::radix::RadixStage2;

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

    /// The formats have leaves that not every processor has.
    fn size_rule(&self, (): &()) -> SizeRule {
        SizeRule::AnyOf(self.leaves)
    }

    hv_core::stage2_by_kind!(each);
}
