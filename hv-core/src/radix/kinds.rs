//! Tables of several kinds behind one type: a processor decides at boot which of them its machine has.

/// Inside an implementation of [`crate::isa::Stage2`] for a type whose field `table` is an enum over tables: what each
/// kind answers by itself. What depends on the choice (`create`, `size_rule`) is the backend's. `$each` is its macro
/// `each!(table, t => expression)`, which evaluates the expression for whichever kind `table` is; the instruction set
/// is `I`.
#[macro_export]
macro_rules! stage2_by_kind {
    ($each:ident) => {
        fn destroy(self, cpu: &$crate::epoch::Cpu, m: &I::Machine) {
            $each!(self.table, t => $crate::isa::Stage2::<I>::destroy(t, cpu, m));
        }

        fn dirty_method(&self) -> $crate::isa::DirtyMethod {
            $each!(&self.table, t => $crate::isa::Stage2::<I>::dirty_method(t))
        }

        #[inline]
        fn map(
            &self,
            g: &$crate::epoch::WalkGuard<'_>,
            m: &I::Machine,
            claim: I::Claim,
            x: $crate::mmu::lock::Mapping,
        ) -> Result<(), $crate::isa::MapError> {
            $each!(&self.table, t => $crate::isa::Stage2::<I>::map(t, g, m, claim, x))
        }

        fn map_run(
            &self,
            g: &$crate::epoch::WalkGuard<'_>,
            m: &I::Machine,
            claim: I::Claim,
            gfns: $crate::addr::GfnRange,
            at: impl FnMut($crate::addr::Gfn) -> Option<$crate::mmu::lock::Mapping>,
        ) -> Result<$crate::addr::Gfn, $crate::isa::MapError> {
            $each!(&self.table, t => $crate::isa::Stage2::<I>::map_run(t, g, m, claim, gfns, at))
        }

        fn unmap(
            &self,
            cpu: &$crate::epoch::Cpu,
            m: &I::Machine,
            r: $crate::addr::GfnRange,
            f: &mut $crate::mmu::flush::FlushBatch,
            changed: Option<&mut dyn FnMut($crate::addr::Gfn, $crate::addr::Order)>,
        ) -> $crate::isa::Unmapped {
            $each!(&self.table, t => $crate::isa::Stage2::<I>::unmap(t, cpu, m, r, f, changed))
        }

        fn protect(
            &self,
            cpu: &$crate::epoch::Cpu,
            m: &I::Machine,
            r: $crate::addr::GfnRange,
            f: &mut $crate::mmu::flush::FlushBatch,
        ) {
            $each!(&self.table, t => $crate::isa::Stage2::<I>::protect(t, cpu, m, r, f));
        }

        fn collect(
            &self,
            cpu: &$crate::epoch::Cpu,
            m: &I::Machine,
            r: $crate::addr::GfnRange,
            f: &mut $crate::mmu::flush::FlushBatch,
            changed: &mut dyn FnMut($crate::addr::Gfn, $crate::addr::Order),
        ) {
            $each!(&self.table, t => $crate::isa::Stage2::<I>::collect(t, cpu, m, r, f, changed));
        }

        fn age(
            &self,
            cpu: &$crate::epoch::Cpu,
            m: &I::Machine,
            r: $crate::addr::GfnRange,
            f: &mut $crate::mmu::flush::FlushBatch,
            noted: &mut dyn FnMut($crate::addr::Gfn, $crate::addr::Order),
        ) {
            $each!(&self.table, t => $crate::isa::Stage2::<I>::age(t, cpu, m, r, f, noted));
        }

        fn table_frames(&self) -> u64 {
            $each!(&self.table, t => $crate::isa::Stage2::<I>::table_frames(t))
        }

        fn census(
            &self,
            cpu: &$crate::epoch::Cpu,
            m: &I::Machine,
            r: $crate::addr::GfnRange,
            into: &mut $crate::mmu::census::Census,
        ) {
            $each!(&self.table, t => $crate::isa::Stage2::<I>::census(t, cpu, m, r, into));
        }

        fn lookup(
            &self,
            cpu: &$crate::epoch::Cpu,
            m: &I::Machine,
            gfn: $crate::addr::Gfn,
        ) -> $crate::radix::format::Pte {
            $each!(&self.table, t => $crate::isa::Stage2::<I>::lookup(t, cpu, m, gfn))
        }
    };
}
