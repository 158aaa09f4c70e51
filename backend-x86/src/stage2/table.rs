//! The table of a VM: of the kind that the machine has.

use hv_core::addr::Orders;
use hv_core::epoch::Cpu;
use hv_core::isa::{DirtyMethod, Isa, SizeRule, Stage2, VmTag};
use hv_core::radix::RadixStage2;

use super::Processor;
use super::format::Entries;
use super::found::Found;
use super::pointer::{eptp, nested_cr3};
use crate::features::Nested;

/// A VM's second stage.
#[derive(Debug)]
pub struct X86Stage2 {
    table: RadixStage2<Entries<Found>>,
    pointer: u64,
    leaves: Orders,
}

/// There is one kind of table.
macro_rules! only {
    ($table:expr, $t:ident => $with:expr) => {{
        let $t = $table;
        $with
    }};
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
        let table: RadixStage2<Entries<Found>> = Stage2::<I>::create(cpu, m, tag)?;
        let root = table.root();
        let pointer = match features.nested() {
            Nested::EptMarks => eptp(root, DirtyMethod::HardwareBits),
            Nested::EptTrap => eptp(root, DirtyMethod::WriteProtect),
            Nested::Npt => nested_cr3(root),
        };
        Some(Self { table, pointer, leaves: features.leaves() })
    }

    /// The formats have leaves that not every processor has.
    fn size_rule(&self, (): &()) -> SizeRule {
        SizeRule::AnyOf(self.leaves)
    }

    hv_core::stage2_by_kind!(only);
}
