//! The hypervisor's own translation: the first 512 GiB of real memory at `0xc000_0000_0000_0000`.
//!
//! Trivet runs in real mode, but for two pieces. POWER9 delivers interrupts in hypervisor state with translation on if the
//! guest's are (vectors.rs), and for the few instructions until it is off these must be translated, by process 0 of partition 0.
//! And calls that real mode defers are made with translation on (translated.rs), at the same memory's lowest addresses.

use hv_core::addr::{Order, PAGE_SHIFT, PAGE_SIZE, Pfn};

use crate::radix::TREE_SIZE_52;

/// Entries of the root, as of a guest's: 13 bits.
pub const ROOT: Order = match Order::new(4) {
    Some(order) => order,
    None => Order::PAGE,
};
const ROOT_BITS: u64 = 13;
/// Entries of the second level, each of 1 GiB.
const SECOND_BITS: u64 = 9;

const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
/// Referenced, changed, privileged, and all of read, write, execute.
const OPEN: u64 = 0x18f;
/// Partition table, doubleword 0: radix.
const HOST_RADIX: u64 = 1 << 63;
/// Partition table, doubleword 1: the process table is for radix.
const GUEST_RADIX: u64 = 1 << 63;

/// The three tables' frames.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// The root, of [`ROOT`].
    pub root: Pfn,
    /// The second level, one page.
    pub second: Pfn,
    /// The process table, one page.
    pub processes: Pfn,
}

const fn address(frame: Pfn) -> u64 {
    frame.0 << PAGE_SHIFT
}

impl Frames {
    /// The root's only entry that is not zero: its first.
    #[must_use]
    pub const fn root_entry(&self) -> u64 {
        VALID | address(self.second) | SECOND_BITS
    }

    /// All entries of the second level.
    pub fn second_entries() -> impl Iterator<Item = u64> {
        (0..PAGE_SIZE as u64 / 8).map(|gib| VALID | LEAF | gib << 30 | OPEN)
    }

    /// The first doubleword of the process table's first entry. All others are zero.
    #[must_use]
    pub const fn process_entry(&self) -> u64 {
        TREE_SIZE_52 | address(self.root) | ROOT_BITS
    }

    /// Partition 0's entry of the partition table. There is no partition-scoped translation in it; what the first doubleword
    /// names has to be a tree.
    #[must_use]
    pub const fn partition_entry(&self) -> [u64; 2] {
        [HOST_RADIX | self.process_entry(), GUEST_RADIX | address(self.processes)]
    }
}

#[cfg(test)]
mod tests {
    use super::Frames;
    use hv_core::addr::Pfn;

    /// Power ISA v3.0B, Book III, figures of the three kinds of entries.
    #[test]
    fn words_are_those_of_the_architecture() {
        let frames = Frames { root: Pfn(0x10), second: Pfn(0x20), processes: Pfn(0x21) };
        assert_eq!(frames.root_entry(), 0x8000_0000_0002_0009);
        assert_eq!(frames.process_entry(), 0x4000_0000_0001_00ad);
        assert_eq!(frames.partition_entry(), [0xc000_0000_0001_00ad, 0x8000_0000_0002_1000]);
        let second: Vec<u64> = Frames::second_entries().collect();
        assert_eq!((second.len(), second[0], second[511]), (512, 0xc000_0000_0000_018f, 0xc000_007f_c000_018f));
    }
}
