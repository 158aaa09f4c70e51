//! The fake's entry format.
//!
//! Before skewing, a word is `frame << 16 | level check << 12 | kind << 8 | flags`. It is then rotated by an amount that
//! depends on the level, and its bytes are reversed, so that neither a wrong level nor a wrong byte order decodes to
//! anything but an unknown word. Zero is a hole at every level.

use hv_core::addr::{Order, Orders, Pfn};
use hv_core::isa::{DirtyMethod, RadixFormat};
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef, Transition};
use hv_core::radix::{RadixStage2, Stage2Format};
use hv_core::sync::SMALL;

const TABLE: u64 = 1;
const LEAF: u64 = 2;
const BUSY: u64 = 3;
const SPLITTING: u64 = 4;
const FROZEN: u64 = 5;

/// The format.
#[derive(Debug)]
pub struct Skewed;

/// A second stage in it.
pub type SkewedStage2 = RadixStage2<Skewed>;

/// The same bits where hardware notes nothing by itself, as on machines that raise a fault for it: R and C are set with the
/// translation, and stores are noticed by their faults.
#[derive(Debug)]
pub struct Trapping;

/// A second stage in it.
pub type TrappingStage2 = RadixStage2<Trapping>;

impl Skewed {
    fn check(level: u8) -> u64 {
        u64::from(level ^ 0x9) & 0xf
    }

    fn order_at(level: u8) -> Option<Order> {
        let order = Order::new(Self::BITS.iter().take(usize::from(level)).sum())?;
        Self::LEAVES.contains(order).then_some(order)
    }

    fn decode_known(v: u64, level: u8) -> Option<Pte> {
        let (pfn, kind, flags) = (Pfn(v >> 16), v >> 8 & 0xf, v & 0xff);
        if v >> 12 & 0xf != Self::check(level) {
            return None;
        }
        match kind {
            TABLE => {
                let bits = u8::try_from(flags).ok()?;
                let fits = Self::BITS.get(usize::from(level.checked_sub(1)?)) == Some(&bits);
                fits.then_some(Pte::Table { table: TableRef::new(pfn, TableRef::order_of(bits)?), bits })
            }
            LEAF => {
                let prot = Prot::from_bits((flags & 0xf) as u8)?;
                let rc = Rc::from_bits((flags >> 4) as u8)?;
                pfn.is_aligned(Self::order_at(level)?).then_some(Pte::Leaf(Leaf { pfn, prot, rc }))
            }
            BUSY if v >> 16 == 0 && flags == 0 => Some(Pte::Transition(Transition::Busy)),
            SPLITTING if v >> 16 == 0 && flags == 0 => Some(Pte::Transition(Transition::Splitting)),
            FROZEN if v >> 16 == 0 && flags == 0 => Some(Pte::Transition(Transition::Frozen)),
            _ => None,
        }
    }
}

fn skew(v: u64, level: u8) -> u64 {
    v.rotate_left(7 * (u32::from(level) + 1)).swap_bytes()
}

fn straighten(raw: u64, level: u8) -> u64 {
    raw.swap_bytes().rotate_right(7 * (u32::from(level) + 1))
}

impl RadixFormat for Skewed {
    /// Leaves of 4 KiB, 2 MiB and 1 GiB, 128 GiB in all; the root holds tables only. The model checkers get what the host
    /// table has there, so that both agree on what is huge.
    const BITS: &'static [u8] = if SMALL { &[1, 1] } else { &[9, 9, 2, 3] };

    fn decode(raw: u64, level: u8) -> Pte {
        if raw == 0 {
            return Pte::Hole;
        }
        Self::decode_known(straighten(raw, level), level).unwrap_or(Pte::Transition(Transition::Unknown))
    }

    fn encode(pte: Pte, level: u8) -> u64 {
        let word = |pfn: Pfn, kind: u64, flags: u64| pfn.0 << 16 | Self::check(level) << 12 | kind << 8 | flags;
        let none = Pfn(0);
        let v = match pte {
            Pte::Hole => return 0,
            Pte::Table { table, bits } => word(table.base(), TABLE, u64::from(bits)),
            Pte::Leaf(l) => word(l.pfn, LEAF, u64::from(l.prot.bits()) | u64::from(l.rc.bits()) << 4),
            Pte::Transition(Transition::Busy | Transition::Arriving(_) | Transition::Unknown) | Pte::Swapped(_) => {
                word(none, BUSY, 0)
            }
            Pte::Transition(Transition::Splitting) => word(none, SPLITTING, 0),
            Pte::Transition(Transition::Frozen) => word(none, FROZEN, 0),
        };
        skew(v, level)
    }
}

impl Stage2Format for Skewed {
    const LEAVES: Orders = match Order::new(1) {
        Some(pair) if SMALL => Orders::NONE.with(Order::PAGE).with(pair),
        _ => Orders::NONE.with(Order::PAGE).with(Order::MIB2).with(Order::GIB),
    };

    fn dirty() -> DirtyMethod {
        DirtyMethod::HardwareBits
    }
}

impl RadixFormat for Trapping {
    const BITS: &'static [u8] = Skewed::BITS;

    fn decode(raw: u64, level: u8) -> Pte {
        Skewed::decode(raw, level)
    }

    fn encode(pte: Pte, level: u8) -> u64 {
        Skewed::encode(pte, level)
    }
}

impl Stage2Format for Trapping {
    const LEAVES: Orders = Skewed::LEAVES;
    fn dirty() -> DirtyMethod {
        DirtyMethod::WriteProtect
    }
}
