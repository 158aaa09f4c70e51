//! The host table's own entry format. No hardware reads it, so every state has a code of its own.
//!
//! ```text
//!   63            12 11       8 7      4 3    0
//!   | frame number  | prot     | rc     | code |     leaf
//!   | frame number  | bits             | code |     table (bits 11:4)
//!   | place in a store | 0             | code |     swapped, arriving: at the leaf level only
//! ```
//!
//! Codes: 0 none, 1 table, 2 leaf, 3 busy, 4 splitting, 5 swapped, 6 frozen, 7 arriving.

use crate::addr::Pfn;
use crate::isa::RadixFormat;
use crate::radix::format::{Leaf, Place, Prot, Pte, Rc, TableRef, Transition};
use crate::sync::SMALL;

const NONE: u64 = 0;
const TABLE: u64 = 1;
const LEAF: u64 = 2;
const BUSY: u64 = 3;
const SPLITTING: u64 = 4;
const SWAPPED: u64 = 5;
const FROZEN: u64 = 6;
const ARRIVING: u64 = 7;

const CODE_MASK: u64 = 0xf;
const RC_SHIFT: u32 = 4;
const PROT_SHIFT: u32 = 8;
const PFN_SHIFT: u32 = 12;
const BITS_SHIFT: u32 = 4;
const PLACE_SHIFT: u32 = u64::BITS - Place::BITS;

/// Hardware marks no host leaf. On one this says that the store would not take the page, which has not been used since.
pub(super) const REFUSED: Rc = Rc::REFERENCED;

/// The format.
#[derive(Debug)]
pub struct HostFormat;

impl RadixFormat for HostFormat {
    /// 48 bits of host space. The model checkers get one bit a level.
    const BITS: &'static [u8] = if SMALL { &[1, 1] } else { &[9, 9, 9, 9] };

    #[inline(always)]
    fn decode(raw: u64, level: u8) -> Pte {
        let pfn = Pfn(raw >> PFN_SHIFT);
        // First, and by one comparison: every walk asks this at every level. A table of another size than its level
        // prescribes is not ours.
        if let Some(bits) = below(level)
            && raw & ((1 << PFN_SHIFT) - 1) == u64::from(bits) << BITS_SHIFT | TABLE
            && let Some(order) = TableRef::order_of(bits)
        {
            return Pte::Table { table: TableRef::new(pfn, order), bits };
        }
        match raw & CODE_MASK {
            LEAF => {
                let prot = Prot::from_bits((raw >> PROT_SHIFT & 0xf) as u8);
                let rc = Rc::from_bits((raw >> RC_SHIFT & 0xf) as u8);
                match (prot, rc) {
                    (Some(prot), Some(rc)) => Pte::Leaf(Leaf { pfn, prot, rc }),
                    _ => Pte::Transition(Transition::Unknown),
                }
            }
            NONE if raw == 0 => Pte::Hole,
            _ => match (rare(raw, level), Place::new(raw >> PLACE_SHIFT)) {
                (Rare::Swapped, Some(place)) => Pte::Swapped(place),
                (Rare::Arriving, Some(place)) => Pte::Transition(Transition::Arriving(place)),
                (Rare::Busy, _) => Pte::Transition(Transition::Busy),
                (Rare::Splitting, _) => Pte::Transition(Transition::Splitting),
                (Rare::Frozen, _) => Pte::Transition(Transition::Frozen),
                _ => Pte::Transition(Transition::Unknown),
            },
        }
    }

    #[inline(always)]
    fn encode(pte: Pte, _level: u8) -> u64 {
        match pte {
            Pte::Hole => NONE,
            Pte::Table { table, bits } => table.base().0 << PFN_SHIFT | u64::from(bits) << BITS_SHIFT | TABLE,
            Pte::Leaf(l) => {
                let flags = u64::from(l.prot.bits()) << PROT_SHIFT | u64::from(l.rc.bits()) << RC_SHIFT;
                // The mask changes nothing. It tells the compiler that the frame number's bits are others, and in a row of
                // leaves each word is the last one plus a constant: a third of the cost of a split.
                l.pfn.0 << PFN_SHIFT | (flags | LEAF) & ((1 << PFN_SHIFT) - 1)
            }
            Pte::Transition(Transition::Busy | Transition::Unknown) => BUSY,
            Pte::Transition(Transition::Splitting) => SPLITTING,
            Pte::Transition(Transition::Frozen) => FROZEN,
            Pte::Transition(Transition::Arriving(place)) => place.number() << PLACE_SHIFT | ARRIVING,
            Pte::Swapped(place) => place.number() << PLACE_SHIFT | SWAPPED,
        }
    }
}

/// What is neither a table, a leaf nor a hole.
enum Rare {
    Swapped,
    Arriving,
    Busy,
    Splitting,
    Frozen,
    Unknown,
}

/// Which of them. A call, and one whose answer fits a register: walks that find a page do not pay for it.
#[cold]
#[inline(never)]
fn rare(raw: u64, level: u8) -> Rare {
    match raw & ((1 << PLACE_SHIFT) - 1) {
        SWAPPED if level == 0 => Rare::Swapped,
        ARRIVING if level == 0 => Rare::Arriving,
        _ => match raw & CODE_MASK {
            BUSY => Rare::Busy,
            SPLITTING => Rare::Splitting,
            FROZEN => Rare::Frozen,
            _ => Rare::Unknown,
        },
    }
}

/// Index bits of the tables that entries at `level` name.
#[inline(always)]
fn below(level: u8) -> Option<u8> {
    HostFormat::BITS.get(usize::from(level.checked_sub(1)?)).copied()
}
