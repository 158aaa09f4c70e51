//! The registers that tell hardware of a second stage: VTCR_EL2 and VTTBR_EL2 (DDI 0487, D19.2).

use hv_core::addr::PAGE_SHIFT;
use hv_core::isa::VmTag;
use hv_core::radix::format::TableRef;

use crate::features::{Features, Marks};

/// 64 less the bits of a guest physical address.
const T0SZ: u64 = 64 - Features::GUEST_BITS as u64;
/// The walk begins at level 1 (4 KiB granule), 7:6.
const SL0_LEVEL_1: u64 = 1 << 6;
/// Table walks through write-back caches, inner and outer, inner shareable; 4 KiB granule (15:14 = 0).
const WALKS: u64 = 1 << 8 | 1 << 10 | 3 << 12;
/// VMIDs of 16 bits.
const VS: u64 = 1 << 19;
/// Hardware sets the access flag.
const HA: u64 = 1 << 21;
/// Hardware notes stores.
const HD: u64 = 1 << 22;
const RES1: u64 = 1 << 31;
/// Where a table's address stands in VTTBR_EL2, and where the VMID begins.
const BADDR: u64 = 0x0000_ffff_ffff_fffe;
const VMID: u32 = 48;

/// VTCR_EL2, the same for all VMs. Marks are left to hardware only where it keeps both: with the access flag alone, stores
/// would have to be noticed by faults all the same.
#[must_use]
pub fn vtcr(features: &Features) -> u64 {
    let size = if features.vmid_bits > 8 { VS } else { 0 };
    let marks = if features.marks == Marks::Dirty { HA | HD } else { 0 };
    RES1 | marks | size | u64::from(features.address_code) << 16 | WALKS | SL0_LEVEL_1 | T0SZ
}

/// VTTBR_EL2 of the VM with this tag and root. `None` if VMIDs here are narrower, or if the root lies where the register
/// cannot point, or off its own alignment.
#[must_use]
pub fn vttbr(features: &Features, tag: VmTag, root: TableRef) -> Option<u64> {
    let vmid = u64::from(tag.0.get());
    let base = root.base().0.checked_mul(1 << PAGE_SHIFT)?;
    let fits = vmid >> features.vmid_bits == 0 && base >> features.address_bits == 0 && base & !BADDR == 0;
    (fits && root.base().is_aligned(root.order())).then(|| tagged(tag, base))
}

/// VTTBR_EL2 with this tag and the root at `base`, which [`vttbr`] would point at.
#[must_use]
pub fn tagged(tag: VmTag, base: u64) -> u64 {
    u64::from(tag.0.get()) << VMID | base
}

/// The VMID in a value of VTTBR_EL2.
#[must_use]
pub fn vmid(vttbr: u64) -> u16 {
    (vttbr >> VMID) as u16
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU16;

    use hv_core::addr::{Order, Pfn};
    use hv_core::isa::VmTag;
    use hv_core::radix::format::TableRef;

    use super::{vmid, vtcr, vttbr};
    use crate::features::{Features, IdRegisters};

    /// 44 bits of address, 8 of VMID, no marks; and with all of it.
    fn processors() -> (Features, Features) {
        let small = Features::of(&IdRegisters { mmfr0: 0x1124, ..IdRegisters::default() }).unwrap();
        let large = Features::of(&IdRegisters { mmfr0: 0x1126, mmfr1: 0x22, ..IdRegisters::default() }).unwrap();
        (small, large)
    }

    #[test]
    fn the_control_register_is_the_one_the_architecture_draws() {
        let (small, large) = processors();
        assert_eq!(vtcr(&small), 0x8004_3558);
        assert_eq!(vtcr(&large), 0x806d_3558);
        let access = Features::of(&IdRegisters { mmfr0: 0x1124, mmfr1: 1, ..IdRegisters::default() }).unwrap();
        assert_eq!(vtcr(&access), vtcr(&small), "an access flag alone is not used");
    }

    #[test]
    fn a_tag_that_does_not_fit_its_register_is_refused() {
        let (small, large) = processors();
        let order = Order::new(1).unwrap();
        let tag = |n| VmTag(NonZeroU16::new(n).unwrap());
        let root = TableRef::new(Pfn(0x40002), order);
        assert_eq!(vttbr(&small, tag(255), root), Some(0x00ff_0000_4000_2000));
        assert_eq!(vttbr(&small, tag(256), root), None, "it would run as VMID 0");
        assert_eq!(vttbr(&large, tag(256), root), Some(0x0100_0000_4000_2000));
        assert_eq!(vttbr(&large, tag(1), TableRef::new(Pfn(0x40001), order)), None, "H4: one page off the pair");
        assert_eq!(vttbr(&small, tag(1), TableRef::new(Pfn(1 << 32), order)), None, "beyond 44 bits");
        assert_eq!(vttbr(&large, tag(1), TableRef::new(Pfn(1 << 60), order)), None);
        assert_eq!(vmid(0x0100_0000_4000_2000), 0x100);
    }
}
