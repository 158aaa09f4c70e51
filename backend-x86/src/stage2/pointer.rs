//! The values that point hardware at a second stage.

use hv_core::addr::PAGE_SHIFT;
use hv_core::isa::DirtyMethod;
use hv_core::radix::format::TableRef;

/// Bits 2:0 of an EPT pointer: table walks go through write-back caches.
const WALKS_WRITE_BACK: u64 = 6;
/// Bits 5:3: the levels of a walk, less one.
const FOUR_LEVELS: u64 = 3 << 3;
/// Bit 6: hardware sets accessed and dirty bits.
const MARKS: u64 = 1 << 6;

/// The EPT pointer (Intel SDM vol. 3C, "Extended-Page-Table Pointer") of a table with this root, whose stores are noted
/// so. Also what a single-context INVEPT names.
#[must_use]
pub fn eptp(root: TableRef, dirty: DirtyMethod) -> u64 {
    let marks = match dirty {
        DirtyMethod::HardwareBits => MARKS,
        DirtyMethod::WriteProtect => 0,
    };
    root.base().0 << PAGE_SHIFT | marks | FOUR_LEVELS | WALKS_WRITE_BACK
}

/// nCR3 (AMD APM vol. 2, 15.25.3) for a table with this root. PWT and PCD clear: table walks through write-back caches.
#[must_use]
pub fn nested_cr3(root: TableRef) -> u64 {
    root.base().0 << PAGE_SHIFT
}

#[cfg(test)]
mod tests {
    use super::{eptp, nested_cr3};
    use hv_core::addr::{Order, Pfn};
    use hv_core::isa::DirtyMethod;
    use hv_core::radix::format::TableRef;

    #[test]
    fn hardware_is_told_of_four_levels_and_whose_the_marks_are() {
        let root = TableRef::new(Pfn(0x12345), Order::PAGE);
        assert_eq!(eptp(root, DirtyMethod::HardwareBits), 0x1234_505e);
        assert_eq!(eptp(root, DirtyMethod::WriteProtect), 0x1234_501e);
        assert_eq!(nested_cr3(root), 0x1234_5000);
    }
}
