//! The entry format.
//!
//! ```text
//!   63 valid   62 leaf   61 software   56:12 frame   8 R   7 C   5:4 attribute   3 privileged   2 read  1 write  0 exec
//!   63 valid   62 =0                   59:8 table                                               4:0 index bits below
//! ```
//!
//! Geometry: 52 bits of guest real address = 13 + 9 + 9 + 9 + 12. Leaves of 4 KiB, 2 MiB and 1 GiB; none in the root.
//! An entry that is not valid belongs to software: zero is a hole; the software bit marks a transition, and the low bits
//! say which. A word with any other bit set, or with a misaligned address, is not ours and decodes as unknown.

use hv_core::addr::{Order, Orders, PAGE_SHIFT, Pfn};
use hv_core::isa::{DirtyMethod, RadixFormat};
use hv_core::radix::Stage2Format;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef, Transition};

const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
const SOFTWARE: u64 = 1 << 61;
const FRAME: u64 = 0x01ff_ffff_ffff_f000;
const R: u64 = 0x100;
const C: u64 = 0x80;
const READ: u64 = 0x4;
const WRITE: u64 = 0x2;
const EXEC: u64 = 0x1;
/// The entry's bits for each set of permissions. They are those of [`Prot`] in opposite order, and a compiler that sees
/// that reverses a whole word for it.
const PERMISSIONS: [u8; 8] = {
    let mut bits = [0; 8];
    let mut prot = 0;
    while prot < 8 {
        let set = Prot::from_bits_truncate(prot);
        bits[prot as usize] = if set.contains(Prot::READ) { READ as u8 } else { 0 }
            | if set.contains(Prot::WRITE) { WRITE as u8 } else { 0 }
            | if set.contains(Prot::EXEC) { EXEC as u8 } else { 0 };
        prot += 1;
    }
    bits
};
/// A table's address as we write it: tables are whole pages.
const TABLE: u64 = 0x0fff_ffff_ffff_f000;

/// Index bits of every table but the root: a page of entries.
const BELOW_ROOT: u8 = 9;

const BUSY: u64 = SOFTWARE | 1;
const SPLITTING: u64 = SOFTWARE | 2;
const FROZEN: u64 = SOFTWARE | 3;

/// Partition-scoped radix entries.
#[derive(Debug)]
pub struct PartitionScoped;

impl PartitionScoped {
    /// Order of a leaf at `level`, where the architecture has one.
    fn leaf_order(level: u8) -> Option<Order> {
        match level {
            0 => Order::new(0),
            1 => Order::new(9),
            2 => Order::new(18),
            _ => None,
        }
    }

    #[inline(always)]
    fn decode_leaf(v: u64, level: u8) -> Option<Leaf> {
        if v & !(FRAME | R | C | READ | WRITE | EXEC) != VALID | LEAF {
            return None;
        }
        let pfn = Pfn((v & FRAME) >> PAGE_SHIFT);
        if !pfn.is_aligned(Self::leaf_order(level)?) {
            return None;
        }
        let mut prot = Prot::empty();
        prot.set(Prot::READ, v & READ != 0);
        prot.set(Prot::WRITE, v & WRITE != 0);
        prot.set(Prot::EXEC, v & EXEC != 0);
        let mut rc = Rc::empty();
        rc.set(Rc::REFERENCED, v & R != 0);
        rc.set(Rc::CHANGED, v & C != 0);
        Some(Leaf { pfn, prot, rc })
    }

    #[inline(always)]
    fn decode_table(v: u64, level: u8) -> Option<Pte> {
        // Every table that we make has the size its level prescribes, and all but the root are of one size. One comparison with
        // one constant: every walk asks at every level, and is unrolled only while a level is little.
        if level == 0 || v & !TABLE != VALID | u64::from(BELOW_ROOT) {
            return None;
        }
        let (table, bits) = (TableRef::new(Pfn((v & TABLE) >> PAGE_SHIFT), Order::PAGE), BELOW_ROOT);
        Some(Pte::Table { table, bits })
    }
}

impl RadixFormat for PartitionScoped {
    const BITS: &'static [u8] = &[BELOW_ROOT, BELOW_ROOT, BELOW_ROOT, 13];

    #[inline(always)]
    fn decode(raw: u64, level: u8) -> Pte {
        let v = u64::from_be(raw);
        if let Some(table) = Self::decode_table(v, level) {
            return table;
        }
        // Asked of the word as it was read: a first touch, and it need not be turned round.
        if raw == 0 {
            return Pte::Hole;
        }
        let known = match v {
            BUSY => Some(Pte::Transition(Transition::Busy)),
            SPLITTING => Some(Pte::Transition(Transition::Splitting)),
            FROZEN => Some(Pte::Transition(Transition::Frozen)),
            _ => Self::decode_leaf(v, level).map(Pte::Leaf),
        };
        known.unwrap_or(Pte::Transition(Transition::Unknown))
    }

    #[inline(always)]
    fn encode(pte: Pte, _level: u8) -> u64 {
        let v = match pte {
            Pte::Hole => 0,
            // None of the others is ever written; busy is what it would mean to whoever met it.
            Pte::Transition(Transition::Busy | Transition::Arriving(_) | Transition::Unknown) | Pte::Swapped(_) => BUSY,
            Pte::Transition(Transition::Splitting) => SPLITTING,
            Pte::Transition(Transition::Frozen) => FROZEN,
            Pte::Table { table, bits } => VALID | (table.base().0 << PAGE_SHIFT & TABLE) | u64::from(bits),
            Pte::Leaf(leaf) => {
                let permissions = PERMISSIONS[usize::from(leaf.prot.bits() & 7)];
                // No loop over the two: where code is to be small it would stay one.
                let referenced = if leaf.rc.contains(Rc::REFERENCED) { R } else { 0 };
                let changed = if leaf.rc.contains(Rc::CHANGED) { C } else { 0 };
                VALID | LEAF | (leaf.pfn.0 << PAGE_SHIFT & FRAME) | u64::from(permissions) | referenced | changed
            }
        };
        v.to_be()
    }

    #[inline(always)]
    fn protected(raw: u64, level: u8, along: Rc) -> Option<u64> {
        // Masks in the order of memory, so that the word need not be turned round. No entry of the root is a leaf.
        const OTHER: u64 = (!(FRAME | R | C | READ | EXEC)).to_be();
        const WRITABLE: u64 = (VALID | LEAF | WRITE).to_be();
        // A word that no entry has under the mask: in a loop over entries the level is asked for once.
        let writable = if level > 2 { u64::MAX } else { WRITABLE };
        if raw & OTHER != writable {
            return None;
        }
        let mut gone = WRITE;
        gone |= if along.contains(Rc::REFERENCED) { R } else { 0 };
        gone |= if along.contains(Rc::CHANGED) { C } else { 0 };
        Some(raw & !gone.to_be())
    }
}

impl Stage2Format for PartitionScoped {
    const LEAVES: Orders = Orders::NONE.with(Order::PAGE).with(Order::MIB2).with(Order::GIB);

    /// Hardware may raise a fault for a clear R or C instead of setting it, and firmware that sets them may do so with a
    /// plain store, which brings back an entry that was removed meanwhile. So they are set with the translation, and C goes
    /// with the permission to store.
    fn dirty() -> DirtyMethod {
        DirtyMethod::WriteProtect
    }
}

#[cfg(test)]
mod tests {
    use super::PartitionScoped;
    use hv_core::addr::{Order, Pfn};
    use hv_core::isa::RadixFormat;
    use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef, Transition};

    /// The memory image of a word as the architecture writes it down.
    fn image(v: u64) -> u64 {
        u64::from_ne_bytes(v.to_be_bytes())
    }

    #[test]
    fn words_of_the_architecture_mean_what_it_says() {
        let all = Leaf { pfn: Pfn(0x200), prot: Prot::all(), rc: Rc::all() };
        assert_eq!(PartitionScoped::decode(image(0xc000_0000_0020_0187), 1), Pte::Leaf(all));
        let table = TableRef::new(Pfn(0x12345), Order::PAGE);
        let entry = Pte::Table { table, bits: 9 };
        assert_eq!(PartitionScoped::decode(image(0x8000_0000_1234_5009), 3), entry);
        assert_eq!(PartitionScoped::encode(entry, 3), image(0x8000_0000_1234_5009));
    }

    #[test]
    fn r3_hostile_words_are_unknown() {
        let unknown = Pte::Transition(Transition::Unknown);
        for (word, level, why) in [
            (0xc000_0000_0020_1187_u64, 1, "a 2 MiB leaf off its alignment"),
            (0xc000_0000_0020_0187, 2, "a 1 GiB leaf off its alignment"),
            (0xc000_0000_0000_0187, 3, "a leaf in the root"),
            (0xc000_0000_0000_1197, 0, "a storage attribute"),
            (0xc000_0000_0000_118f, 0, "privileged only"),
            (0xe000_0000_0000_1187, 0, "the software bit in a valid entry"),
            (0x8000_0000_1234_5009, 0, "a table under the leaf level"),
            (0x8000_0000_1234_5005, 1, "a table of another size"),
            (0x8000_0000_1234_5109, 1, "a table off a page boundary"),
            (0x9000_0000_1234_5009, 1, "a reserved bit"),
            (0x4000_0000_0000_0000, 0, "a leaf bit without valid"),
            (0x2000_0000_0000_0004, 0, "a transition that nobody defined"),
            (1, 0, "low bits of an invalid entry"),
        ] {
            assert_eq!(PartitionScoped::decode(image(word), level), unknown, "{why}");
        }
    }

    /// The default way, which decodes.
    struct ByTheBook;

    impl RadixFormat for ByTheBook {
        const BITS: &'static [u8] = PartitionScoped::BITS;
        fn decode(raw: u64, level: u8) -> Pte {
            PartitionScoped::decode(raw, level)
        }
        fn encode(pte: Pte, level: u8) -> u64 {
            PartitionScoped::encode(pte, level)
        }
    }

    #[test]
    fn r4_the_short_way_to_protect_a_leaf_is_that_of_the_book() {
        let flags = 0..0x200_u64;
        let words = flags.flat_map(|low| [1 << 63 | 1 << 62, 1 << 63, 1 << 62, 1 << 61].map(|high| high | low));
        for word in words.flat_map(|word| [word, word | 0x4000_0000, word | 1 << 58]) {
            for (level, along) in [(0, Rc::empty()), (1, Rc::CHANGED), (2, Rc::all()), (3, Rc::CHANGED)] {
                let (short, book) = (PartitionScoped::protected, ByTheBook::protected);
                assert_eq!(short(image(word), level, along), book(image(word), level, along), "{word:#x} at {level}");
            }
        }
    }

    #[test]
    fn r3_transitions_are_invalid_to_hardware() {
        for kind in [Transition::Busy, Transition::Splitting, Transition::Frozen] {
            let raw = PartitionScoped::encode(Pte::Transition(kind), 0);
            assert_eq!(u64::from_be(raw) >> 63, 0);
            assert_eq!(PartitionScoped::decode(raw, 0), Pte::Transition(kind));
        }
    }
}
