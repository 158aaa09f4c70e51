//! Translation caches are emptied (R9).
//!
//! Order (DDI 0487, D8.14 and D8.16; rules 11.5):
//!
//! ```text
//!   DSB ISHST                  what was stored to tables is seen by every walk from here on
//!   TLBI IPAS2LE1IS, each leaf   or   TLBI VMALLS12E1IS   with the VM's VMID in VTTBR_EL2
//!   DSB ISH                    stage 2 is forgotten everywhere
//!   TLBI VMALLE1IS             what stage 1 was combined with it: nothing finds that by guest physical address
//!   DSB ISH; ISB               no CPU uses, nor is in the middle of using, any of it
//! ```
//!
//! The form by address drops leaves and keeps what is cached of tables above them, so it serves where no table went
//! (exhibit H2): a batch that holds a table names the whole VM, and that form drops everything. One address reaches all
//! that is cached of a block, however hardware cut it up.
//!
//! VTTBR_EL2 is exchanged for the time if another VM is loaded on this CPU. What is loaded instead translates nothing:
//! should a walk be begun meanwhile, it finds holes, and those are not cached.

use hv_core::mmu::flush::{FlushRange, Scope};

/// Leaves that are dropped one by one. Beyond that it is cheaper to walk again for what else the VM had cached.
const LEAVES: u64 = 64;

/// What to tell hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan<'a> {
    /// Nothing.
    Nothing,
    /// The leaves of these ranges.
    Leaves(&'a [FlushRange]),
    /// All that is cached for the VM.
    All,
}

impl<'a> Plan<'a> {
    /// For a batch's scope.
    #[must_use]
    pub fn of(scope: Scope<'a>) -> Self {
        match scope {
            Scope::Nothing => Self::Nothing,
            Scope::Vm => Self::All,
            Scope::Ranges(ranges) if ranges.iter().map(leaves).sum::<u64>() > LEAVES => Self::All,
            Scope::Ranges(ranges) => Self::Leaves(ranges),
        }
    }

    /// The operands of TLBI IPAS2LE1IS: the guest frame number of each leaf in 35:0, no hint at its level.
    pub fn operands(self) -> impl Iterator<Item = u64> + 'a {
        let ranges = if let Self::Leaves(ranges) = self { ranges } else { &[] };
        let of = |range: &FlushRange| {
            let stride = usize::try_from(range.order.pages()).unwrap_or(usize::MAX);
            (range.gfns.start().0..range.gfns.end().0).step_by(stride).map(|gfn| gfn & IPA)
        };
        ranges.iter().flat_map(of)
    }
}

/// Bits 47:12 of an address.
const IPA: u64 = (1 << 36) - 1;

fn leaves(range: &FlushRange) -> u64 {
    range.gfns.pages().div_ceil(range.order.pages())
}

#[cfg(target_arch = "aarch64")]
mod registers {
    #![expect(unsafe_code, reason = "translation cache maintenance")]

    use core::arch::asm;

    use aarch64_cpu::asm::barrier::{ISH, ISHST, SY, dsb, isb};
    use aarch64_cpu::registers::{Readable as _, VTTBR_EL2, Writeable as _};

    use super::Plan;
    use crate::stage2::registers::vmid;

    /// Carries out `plan` for the VM whose VMID is that of `holes`, a VTTBR_EL2 value whose table is empty.
    pub fn flush(plan: Plan<'_>, holes: u64) {
        if plan == Plan::Nothing {
            return;
        }
        dsb(ISHST);
        let loaded = VTTBR_EL2.get();
        let other = vmid(loaded) != vmid(holes);
        if other {
            VTTBR_EL2.set(holes);
            isb(SY);
        }
        if plan == Plan::All {
            // SAFETY: what is cached may always be dropped.
            unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) };
        } else {
            for operand in plan.operands() {
                // SAFETY: as above.
                unsafe { asm!("tlbi ipas2le1is, {0}", in(reg) operand, options(nostack, preserves_flags)) };
            }
            dsb(ISH);
            // SAFETY: as above.
            unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
        }
        dsb(ISH);
        isb(SY);
        if other {
            VTTBR_EL2.set(loaded);
            isb(SY);
        }
    }

    /// Drops what this CPU has cached for all VMs, and its instruction cache: both may say anything when it comes up.
    pub fn forget_all_here() {
        // SAFETY: as above.
        unsafe { asm!("tlbi alle1", "ic iallu", options(nostack, preserves_flags)) };
        dsb(SY);
        isb(SY);
    }
}

#[cfg(target_arch = "aarch64")]
pub use registers::{flush, forget_all_here};

#[cfg(test)]
mod tests {
    use core::num::NonZeroU16;

    use hv_core::addr::{Gfn, GfnRange, Order, Pfn};
    use hv_core::isa::VmTag;
    use hv_core::mmu::flush::{FlushBatch, Scope};
    use hv_core::radix::format::TableRef;

    use super::{LEAVES, Plan};

    fn batch(ranges: &[(u64, u64, Order)]) -> FlushBatch {
        let mut batch = FlushBatch::new(VmTag(NonZeroU16::MIN));
        for (start, pages, order) in ranges {
            batch.note(GfnRange::new(Gfn(*start), *pages).unwrap(), *order);
        }
        batch
    }

    #[test]
    fn r9_each_leaf_is_named_once_by_its_own_stride() {
        let b = batch(&[(16, 2, Order::PAGE), (0x200, 0x400, Order::MIB2), (0xf_ffff_ffff, 1, Order::PAGE)]);
        let plan = Plan::of(b.scope());
        assert_eq!(plan.operands().collect::<Vec<_>>(), [16, 17, 0x200, 0x400, 0xf_ffff_ffff]);
        drop(b.completed());
    }

    #[test]
    fn r9_more_than_is_worth_naming_is_the_whole_vm() {
        let (few, many) =
            (batch(&[(0, LEAVES, Order::PAGE)]), batch(&[(0, LEAVES, Order::PAGE), (100, 1, Order::PAGE)]));
        assert!(matches!(Plan::of(few.scope()), Plan::Leaves(_)));
        assert_eq!(Plan::of(many.scope()), Plan::All);
        assert_eq!(Plan::All.operands().count(), 0);
        assert_eq!(Plan::of(Scope::Nothing), Plan::Nothing);
        drop((few.completed(), many.completed()));
    }

    /// Whether a batch with so many leaves and a table is a flush of all.
    fn is_all_with_a_table(pages: u64) -> bool {
        let mut b = batch(&[(0x200, pages, Order::PAGE)]);
        b.hold(TableRef::new(Pfn(5), Order::PAGE)).unwrap();
        let all = Plan::of(b.scope()) == Plan::All;
        // There is no such table to be freed.
        core::mem::forget(b.completed());
        all
    }

    #[test]
    fn h2_a_table_that_goes_takes_all_with_it() {
        assert!(is_all_with_a_table(0x200), "R9: no single address covers the leaves of a table");
        assert!(is_all_with_a_table(1), "R9: the form by address keeps what is cached of tables");
    }
}
