//! The second stage of a guest: a tree, which may have others derived from it, or a hashed table.

use hv_core::epoch::Cpu;
use hv_core::isa::{Isa, SizeRule, Stage2, VmTag};

use crate::hash::{HashStage2, Hashed, MayBeHashed, Processor};
use crate::nested_host::children::Partitions;
use crate::nested_host::stage2::{MayNest, NestStage2};
use crate::radix::PartitionScoped;

/// A second stage.
#[derive(Debug)]
pub struct BareStage2 {
    table: Kind,
}

/// Of which kind it is.
#[derive(Debug)]
pub enum Kind {
    /// A tree.
    Radix(NestStage2<PartitionScoped>),
    /// A hashed table.
    Hashed(HashStage2),
}

/// The same expression for whichever kind it is.
macro_rules! each {
    ($table:expr, $t:ident => $with:expr) => {
        match $table {
            Kind::Radix($t) => $with,
            Kind::Hashed($t) => $with,
        }
    };
}

impl BareStage2 {
    /// The table.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.table
    }
}

impl MayBeHashed for BareStage2 {
    fn hashed(&self) -> Option<&HashStage2> {
        match &self.table {
            Kind::Radix(_) => None,
            Kind::Hashed(table) => Some(table),
        }
    }
}

impl MayNest for BareStage2 {
    type Format = PartitionScoped;

    fn nest(&self) -> Option<&NestStage2<PartitionScoped>> {
        match &self.table {
            Kind::Radix(table) => MayNest::nest(table),
            Kind::Hashed(_) => None,
        }
    }
}

impl<I: Isa> Stage2<I> for BareStage2
where
    I::Machine: Processor + Partitions,
    I::Claim: Hashed,
{
    fn create(cpu: &Cpu, m: &I::Machine, tag: VmTag) -> Option<Self> {
        let table = match m.hashed(tag) {
            None => Kind::Radix(Stage2::<I>::create(cpu, m, tag)?),
            Some(_) => Kind::Hashed(Stage2::<I>::create(cpu, m, tag)?),
        };
        Some(Self { table })
    }

    #[inline(always)]
    fn size_rule(&self, claim: &I::Claim) -> SizeRule {
        each!(&self.table, t => Stage2::<I>::size_rule(t, claim))
    }

    hv_core::stage2_by_kind!(each);
}
