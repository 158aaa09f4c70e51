//! The partition-table entry: what tells hardware, or the hypervisor below, where a guest's second stage is.

use hv_core::addr::PAGE_SHIFT;
use hv_core::isa::RadixFormat;
use hv_core::radix::format::TableRef;

use super::PartitionScoped;

/// First doubleword: the partition is a radix guest.
const HOST_RADIX: u64 = 1 << 63;
/// Size of a tree that translates 52 bits: (52 - 31) = 0b10_101, its high two bits at 62:61, its low three at 7:5.
pub const TREE_SIZE_52: u64 = 2 << 61 | 5 << 5;
const BASE: u64 = 0x0fff_ffff_ffff_f000;

/// First doubleword of the entry of a partition whose radix root is `root`. In register order: the table stores it
/// big-endian. `None` if the root lies where an entry cannot point, or off its own alignment.
pub fn radix_root(root: TableRef) -> Option<u64> {
    let base = root.base().0.checked_shl(PAGE_SHIFT).unwrap_or(u64::MAX);
    if base & !BASE != 0 || base >> PAGE_SHIFT != root.base().0 || !root.base().is_aligned(root.order()) {
        return None;
    }
    let bits = PartitionScoped::BITS.last().copied().map_or(0, u64::from);
    Some(HOST_RADIX | TREE_SIZE_52 | base | bits)
}

#[cfg(test)]
mod tests {
    use super::radix_root;
    use hv_core::addr::{Order, Pfn};
    use hv_core::radix::format::TableRef;

    #[test]
    fn the_root_entry_is_the_one_the_architecture_draws() {
        let order = Order::new(4).unwrap();
        let root = TableRef::new(Pfn(0x12340), order);
        assert_eq!(radix_root(root), Some(0xc000_0000_1234_00ad));
        assert_eq!(radix_root(TableRef::new(Pfn(0x12341), order)), None);
        assert_eq!(radix_root(TableRef::new(Pfn(1 << 60), order)), None);
    }
}
