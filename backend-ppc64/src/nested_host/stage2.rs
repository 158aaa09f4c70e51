//! The second stage of a radix guest: a tree, and the tables that are derived from it if the guest may have guests.
//!
//! Whatever takes something away from the tree takes it away from those too, in the same bracket, under the mmu lock: `unmap` and
//! `age` remove entries, `protect` and `collect` weaken them. A leaf may reach beyond what is asked for, and goes as a whole:
//! then so does what was derived from all of it.

use hv_core::addr::{Gfn, GfnRange, Order};
use hv_core::epoch::{Cpu, WalkGuard};
use hv_core::isa::{DirtyMethod, Isa, MapError, SizeRule, Stage2, Unmapped, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::census::Census;
use hv_core::mmu::derived::Taken;
use hv_core::mmu::flush::FlushBatch;
use hv_core::mmu::lock::Mapping;
use hv_core::radix::format::{Prot, Pte, Rc};
use hv_core::radix::{RadixStage2, Stage2Format};

use super::children::{Nest, Partitions};

/// A radix guest's own tree, and what is derived from it.
#[derive(Debug)]
pub struct NestStage2<F> {
    own: RadixStage2<F>,
    nest: Option<Nest<F>>,
    tag: VmTag,
}

/// A second stage that may be one of these.
pub trait MayNest {
    /// The format of its tables.
    type Format: Stage2Format;
    /// It, if it is one whose guest may have guests.
    fn nest(&self) -> Option<&NestStage2<Self::Format>>;
}

impl<F: Stage2Format> MayNest for NestStage2<F> {
    type Format = F;

    fn nest(&self) -> Option<&Self> {
        self.nest.is_some().then_some(self)
    }
}

/// What a store needs.
const STORES: Taken = Taken { prot: Prot::WRITE, rc: Rc::CHANGED };

impl<F: Stage2Format> NestStage2<F> {
    /// The guest's own tree.
    #[must_use]
    pub fn own(&self) -> &RadixStage2<F> {
        &self.own
    }

    /// Its guests, if it may have any.
    #[must_use]
    pub fn guests(&self) -> Option<&Nest<F>> {
        self.nest.as_ref()
    }

    /// `r`, and all of the leaves at its edges.
    fn reach<M: Machine>(&self, cpu: &Cpu, m: &M, r: GfnRange) -> GfnRange {
        let walk = m.epoch().enter(cpu);
        let leaf = |gfn: Gfn| {
            let seen = self.own.table().entry(m, &walk, gfn.0)?;
            matches!(seen.pte, Pte::Leaf(_)).then(|| GfnRange::block(gfn, seen.order))?
        };
        let last = Gfn(r.end().0.saturating_sub(1));
        [leaf(r.start()), leaf(last)].into_iter().flatten().fold(r, |all, leaf| all.hull(&leaf))
    }

    /// Has `change` take something away from the tree's `r`, then takes `taken` away from what is derived of it; all, if `None`.
    fn change<M: Machine, R>(
        &self,
        cpu: &Cpu,
        m: &M,
        r: GfnRange,
        taken: Option<Taken>,
        change: impl FnOnce() -> R,
    ) -> R {
        let Some(nest) = &self.nest else { return change() };
        let reach = self.reach(cpu, m, r);
        let changed = change();
        match taken {
            // The tree's own entries have lost it already.
            Some(taken) => {
                nest.derived().weaken(cpu, m, (self.own.table(), self.tag), &reach, taken, |_, _, _| {});
            }
            None => nest.derived().forget(cpu, m, &reach),
        }
        changed
    }
}

impl<I: Isa, F: Stage2Format> Stage2<I> for NestStage2<F>
where
    I::Machine: Partitions,
{
    fn create(cpu: &Cpu, m: &I::Machine, tag: VmTag) -> Option<Self> {
        let nest = match m.nest(tag) {
            Some(limits) => Some(Nest::new(limits)?),
            None => None,
        };
        Some(Self { own: Stage2::<I>::create(cpu, m, tag)?, nest, tag })
    }

    fn destroy(self, cpu: &Cpu, m: &I::Machine) {
        if let Some(nest) = self.nest {
            nest.destroy(cpu, m);
        }
        Stage2::<I>::destroy(self.own, cpu, m);
    }

    fn dirty_method(&self) -> DirtyMethod {
        Stage2::<I>::dirty_method(&self.own)
    }

    fn size_rule(&self, claim: &I::Claim) -> SizeRule {
        Stage2::<I>::size_rule(&self.own, claim)
    }

    #[inline]
    fn map(&self, g: &WalkGuard<'_>, m: &I::Machine, claim: I::Claim, x: Mapping) -> Result<(), MapError> {
        Stage2::<I>::map(&self.own, g, m, claim, x)
    }

    fn map_run(
        &self,
        g: &WalkGuard<'_>,
        m: &I::Machine,
        claim: I::Claim,
        gfns: GfnRange,
        at: impl FnMut(Gfn) -> Option<Mapping>,
    ) -> Result<Gfn, MapError> {
        Stage2::<I>::map_run(&self.own, g, m, claim, gfns, at)
    }

    fn unmap(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        r: GfnRange,
        f: &mut FlushBatch,
        changed: Option<&mut dyn FnMut(Gfn, Order)>,
    ) -> Unmapped {
        self.change(cpu, m, r, None, || Stage2::<I>::unmap(&self.own, cpu, m, r, f, changed))
    }

    fn protect(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch) {
        self.change(cpu, m, r, Some(STORES), || Stage2::<I>::protect(&self.own, cpu, m, r, f));
    }

    fn collect(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch, changed: &mut dyn FnMut(Gfn, Order)) {
        self.change(cpu, m, r, Some(Taken::CHANGED), || Stage2::<I>::collect(&self.own, cpu, m, r, f, changed));
    }

    fn age(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch, noted: &mut dyn FnMut(Gfn, Order)) {
        self.change(cpu, m, r, None, || Stage2::<I>::age(&self.own, cpu, m, r, f, noted));
    }

    fn table_frames(&self) -> u64 {
        Stage2::<I>::table_frames(&self.own).saturating_add(self.nest.as_ref().map_or(0, Nest::frames))
    }

    fn census(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, into: &mut Census) {
        Stage2::<I>::census(&self.own, cpu, m, r, into);
    }

    fn lookup(&self, cpu: &Cpu, m: &I::Machine, gfn: Gfn) -> Pte {
        Stage2::<I>::lookup(&self.own, cpu, m, gfn)
    }
}
