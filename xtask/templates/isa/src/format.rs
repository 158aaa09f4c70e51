//! The entry format. Replace bits and geometry by what the manual draws, with its section here; the tests then say what
//! else has to hold.
//!
//! ```text
//!   63:52 =0  51:12 frame  6 changed  5 referenced  4 no execution  3 write  2 read  1 leaf  0 valid      a leaf
//!   63:52 =0  51:12 table                                                            1 =0    0 valid      a table
//!   63:3  =0  2:1 which transition                                                           0 =0         software's
//! ```
//!
//! Geometry: 48 bits of guest physical address = 9 + 9 + 9 + 9 + 12. Leaves of 4 KiB, 2 MiB and 1 GiB; none in the root.
//! An entry that is not valid belongs to software. A word with any other bit set, or with a misaligned address, is not ours
//! and decodes as unknown (R3).

use hv_core::addr::{Order, Orders, PAGE_SHIFT, Pfn};
use hv_core::isa::{DirtyMethod, RadixFormat};
use hv_core::radix::Stage2Format;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef, Transition};

const VALID: u64 = 1;
const LEAF: u64 = 1 << 1;
const READ: u64 = 1 << 2;
const WRITE: u64 = 1 << 3;
const NO_EXECUTION: u64 = 1 << 4;
const REFERENCED: u64 = 1 << 5;
const CHANGED: u64 = 1 << 6;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

const BUSY: u64 = 1 << 1;
const SPLITTING: u64 = 2 << 1;
const FROZEN: u64 = 3 << 1;

/// Second-stage entries.
#[derive(Debug)]
pub enum Entries {}

impl Entries {
    /// Where the frame of a leaf at `level` stands; `None` where there are no leaves.
    fn frame(level: u8) -> Option<u64> {
        let order = Order::new(Self::BITS.iter().take(usize::from(level)).sum())?;
        Self::LEAVES.contains(order).then_some(FRAME & !(order.bytes() - 1))
    }

    fn decode_leaf(v: u64, level: u8) -> Option<Leaf> {
        let frame = Self::frame(level)?;
        if v & !(frame | READ | WRITE | NO_EXECUTION | REFERENCED | CHANGED) != VALID | LEAF {
            return None;
        }
        let mut prot = Prot::empty();
        prot.set(Prot::READ, v & READ != 0);
        prot.set(Prot::WRITE, v & WRITE != 0);
        prot.set(Prot::EXEC, v & NO_EXECUTION == 0);
        let mut rc = Rc::empty();
        rc.set(Rc::REFERENCED, v & REFERENCED != 0);
        rc.set(Rc::CHANGED, v & CHANGED != 0);
        Some(Leaf { pfn: Pfn((v & frame) >> PAGE_SHIFT), prot, rc })
    }

    fn decode_table(v: u64, level: u8) -> Option<Pte> {
        let bits = *Self::BITS.get(usize::from(level.checked_sub(1)?))?;
        if v & !FRAME != VALID {
            return None;
        }
        let table = TableRef::new(Pfn((v & FRAME) >> PAGE_SHIFT), TableRef::order_of(bits)?);
        Some(Pte::Table { table, bits })
    }
}

impl RadixFormat for Entries {
    const BITS: &'static [u8] = &[9, 9, 9, 9];

    fn decode(raw: u64, level: u8) -> Pte {
        let v = u64::from_le(raw);
        let known = match v {
            0 => Some(Pte::Hole),
            BUSY => Some(Pte::Transition(Transition::Busy)),
            SPLITTING => Some(Pte::Transition(Transition::Splitting)),
            FROZEN => Some(Pte::Transition(Transition::Frozen)),
            _ => Self::decode_table(v, level).or_else(|| Self::decode_leaf(v, level).map(Pte::Leaf)),
        };
        known.unwrap_or(Pte::Transition(Transition::Unknown))
    }

    fn encode(pte: Pte, _level: u8) -> u64 {
        let set = |when: bool, bit: u64| if when { bit } else { 0 };
        let v = match pte {
            Pte::Hole => 0,
            // None of the others is ever written; busy is what it would mean to whoever met it.
            Pte::Transition(Transition::Busy | Transition::Arriving(_) | Transition::Unknown) | Pte::Swapped(_) => BUSY,
            Pte::Transition(Transition::Splitting) => SPLITTING,
            Pte::Transition(Transition::Frozen) => FROZEN,
            Pte::Table { table, .. } => VALID | (table.base().0 << PAGE_SHIFT & FRAME),
            Pte::Leaf(leaf) => {
                VALID
                    | LEAF
                    | (leaf.pfn.0 << PAGE_SHIFT & FRAME)
                    | set(leaf.prot.contains(Prot::READ), READ)
                    | set(leaf.prot.contains(Prot::WRITE), WRITE)
                    | set(!leaf.prot.contains(Prot::EXEC), NO_EXECUTION)
                    | set(leaf.rc.contains(Rc::REFERENCED), REFERENCED)
                    | set(leaf.rc.contains(Rc::CHANGED), CHANGED)
            }
        };
        v.to_le()
    }
}

impl Stage2Format for Entries {
    const LEAVES: Orders = Orders::NONE.with(Order::PAGE).with(Order::MIB2).with(Order::GIB);

    /// Until it is known that hardware sets both marks, atomically, and again after they were cleared and flushed.
    fn dirty() -> DirtyMethod {
        DirtyMethod::WriteProtect
    }
}

#[cfg(test)]
mod tests {
    use hv_core::addr::{Order, Pfn};
    use hv_core::isa::RadixFormat;
    use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef, Transition};

    use super::Entries;

    /// Words by hand, from the manual: a mistake that encoding and decoding share shows here only.
    #[test]
    fn words_of_the_architecture_mean_what_it_says() {
        let all = Leaf { pfn: Pfn(0x40200), prot: Prot::all(), rc: Rc::all() };
        assert_eq!(Entries::decode(0x4020_006f_u64.to_le(), 1), Pte::Leaf(all));
        assert_eq!(u64::from_le(Entries::encode(Pte::Leaf(all), 0)), 0x4020_006f);
        let table = Pte::Table { table: TableRef::new(Pfn(0x12345), Order::PAGE), bits: 9 };
        assert_eq!(Entries::decode(0x1234_5001_u64.to_le(), 3), table);
    }

    #[test]
    fn r3_hostile_words_are_unknown() {
        for (word, level, why) in [
            (0x4020_106f_u64, 1, "a 2 MiB leaf off its alignment"),
            (0x4020_006f, 3, "a leaf in the root"),
            (0x1234_5001, 0, "a table under the leaf level"),
            (0x1234_5009, 1, "a table with a leaf's bit"),
            (0x8000_0000_4020_006f, 0, "a reserved bit"),
            (0x4020_006e, 0, "all but valid"),
            (8, 0, "a transition that nobody defined"),
        ] {
            assert_eq!(Entries::decode(word.to_le(), level), Pte::Transition(Transition::Unknown), "{why}");
        }
    }

    #[test]
    fn r3_transitions_are_invalid_to_hardware() {
        for kind in [Transition::Busy, Transition::Splitting, Transition::Frozen] {
            let raw = Entries::encode(Pte::Transition(kind), 0);
            assert_eq!(u64::from_le(raw) & 1, 0);
            assert_eq!(Entries::decode(raw, 0), Pte::Transition(kind));
        }
    }
}
