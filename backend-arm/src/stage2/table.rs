//! The table of a VM: one of three kinds, of which a machine has one.

use hv_core::epoch::Cpu;
use hv_core::isa::{Isa, SizeRule, Stage2, VmTag};
use hv_core::radix::RadixStage2;

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

    fn size_rule(&self, claim: &()) -> SizeRule {
        each!(&self.table, t => Stage2::<I>::size_rule(t, claim))
    }

    hv_core::stage2_by_kind!(each);
}
