//! The entry format (DDI 0487, D8.3: VMSAv8-64 stage 2 descriptors of the 4 KiB granule).
//!
//! ```text
//!   63:56 =0  55 changed  54 no execution  53 =0  52 contiguous =0  51 DBM  47:12 frame
//!   11 =0  10 access  9:8 inner shareable  7 write  6 read  5:2 memory type  1 page  0 valid       a leaf
//!   63:48 =0  47:12 table  11:2 =0  1 =1  0 valid                                                  a table
//!   63:3 =0   2:1 which transition  0 =0                                                           software's
//! ```
//!
//! Geometry: 40 bits of guest physical address = 10 + 9 + 9 + 12. The walk begins at the architecture's level 1, in two
//! concatenated tables; leaves are pages at its level 3 (hv-core's level 0), blocks of 2 MiB at 2 and of 1 GiB at 1.
//!
//! Who notes a store decides what write permission looks like:
//!
//! | method       | may be stored to | was stored to                                      |
//! |--------------|------------------|----------------------------------------------------|
//! | HardwareBits | DBM              | write, which hardware sets; without DBM, bit 55    |
//! | WriteProtect | write            | bit 55, software's                                 |
//!
//! Where hardware notes stores, "write" without DBM would be permission that nobody gave: it is never written, and unknown
//! if met. The contiguous bit is never written either: a run of marks would have to be kept for sixteen leaves at once.

use core::fmt::Debug;
use core::marker::PhantomData;

use hv_core::addr::{Order, Orders, PAGE_SHIFT, Pfn};
use hv_core::isa::{DirtyMethod, RadixFormat};
use hv_core::radix::Stage2Format;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef, Transition};

const VALID: u64 = 1;
/// A page at the leaf level, a table above it; a block has this clear.
const PAGE: u64 = 1 << 1;
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESS: u64 = 1 << 10;
const FRAME: u64 = 0x0000_ffff_ffff_f000;
const DBM: u64 = 1 << 51;
/// XN is 54:53 where EL0 and EL1 can be told apart (FEAT_XNX); this value forbids both, and is the old bit as well.
const NO_EXECUTION: u64 = 1 << 54;
const CHANGED: u64 = 1 << 55;

const BUSY: u64 = 1 << 1;
const SPLITTING: u64 = 2 << 1;
const FROZEN: u64 = 3 << 1;

/// What a processor makes of entries.
pub trait Kind: Debug + 'static {
    /// MemAttr (bits 5:2) of normal, write-back cacheable memory.
    const MEMORY: u64;
    /// Who notes stores.
    const DIRTY: DirtyMethod;
}

/// Hardware keeps marks, and stage 2 alone makes memory cacheable (HCR_EL2.FWB).
#[derive(Debug)]
pub enum Forced {}

/// Hardware keeps marks; a guest that turns its caches off reaches memory behind them.
#[derive(Debug)]
pub enum Hardware {}

/// Hardware keeps no marks, or not that of a store; a guest that turns its caches off reaches memory behind them.
#[derive(Debug)]
pub enum Trap {}

impl Kind for Forced {
    const MEMORY: u64 = 0b0110 << 2;
    const DIRTY: DirtyMethod = DirtyMethod::HardwareBits;
}

impl Kind for Hardware {
    const MEMORY: u64 = 0b1111 << 2;
    const DIRTY: DirtyMethod = DirtyMethod::HardwareBits;
}

impl Kind for Trap {
    const MEMORY: u64 = 0b1111 << 2;
    const DIRTY: DirtyMethod = DirtyMethod::WriteProtect;
}

/// Stage 2 entries of one kind.
#[derive(Debug)]
pub struct Entries<K>(PhantomData<fn() -> K>);

impl<K: Kind> Entries<K> {
    /// The bits that say what permissions and marks a leaf has.
    const SAYS: u64 = READ | WRITE | ACCESS | NO_EXECUTION | CHANGED | if Self::HARDWARE { DBM } else { 0 };
    const HARDWARE: bool = matches!(K::DIRTY, DirtyMethod::HardwareBits);

    /// A leaf at `level`: the bits that every one has, and where its frame stands. `None` where there are none.
    #[inline(always)]
    fn leaf(level: u8) -> Option<(u64, u64)> {
        let every = VALID | K::MEMORY | INNER_SHAREABLE;
        match level {
            0 => Some((every | PAGE, FRAME)),
            1 => Some((every, FRAME & !(Order::MIB2.bytes() - 1))),
            2 => Some((every, FRAME & !(Order::GIB.bytes() - 1))),
            _ => None,
        }
    }

    #[inline(always)]
    fn decode_leaf(v: u64, level: u8) -> Option<Leaf> {
        let (every, frame) = Self::leaf(level)?;
        if v & !(frame | Self::SAYS) != every {
            return None;
        }
        let (writable, changed) = if Self::HARDWARE {
            match v & (DBM | WRITE | CHANGED) {
                0 => (false, false),
                CHANGED => (false, true),
                DBM => (true, false),
                noted if noted == DBM | WRITE => (true, true),
                _ => return None,
            }
        } else {
            (v & WRITE != 0, v & CHANGED != 0)
        };
        let mut prot = Prot::empty();
        prot.set(Prot::READ, v & READ != 0);
        prot.set(Prot::WRITE, writable);
        prot.set(Prot::EXEC, v & NO_EXECUTION == 0);
        let mut rc = Rc::empty();
        rc.set(Rc::REFERENCED, v & ACCESS != 0);
        rc.set(Rc::CHANGED, changed);
        Some(Leaf { pfn: Pfn((v & frame) >> PAGE_SHIFT), prot, rc })
    }

    #[inline(always)]
    fn encode_leaf(leaf: &Leaf, level: u8) -> u64 {
        // Where no leaf can be, one is nothing that anybody may use.
        let Some((every, _)) = Self::leaf(level) else { return BUSY };
        let set = |when: bool, bits: u64| if when { bits } else { 0 };
        let (writable, changed) = (leaf.prot.contains(Prot::WRITE), leaf.rc.contains(Rc::CHANGED));
        let stores = match (Self::HARDWARE, writable) {
            (true, true) => DBM | set(changed, WRITE),
            (false, true) => WRITE | set(changed, CHANGED),
            (_, false) => set(changed, CHANGED),
        };
        every
            | (leaf.pfn.0 << PAGE_SHIFT & FRAME)
            | stores
            | set(leaf.prot.contains(Prot::READ), READ)
            | set(!leaf.prot.contains(Prot::EXEC), NO_EXECUTION)
            | set(leaf.rc.contains(Rc::REFERENCED), ACCESS)
    }

    #[inline(always)]
    fn decode_table(v: u64, level: u8) -> Option<Pte> {
        // One comparison: every walk asks at every level.
        let bits = *Self::BITS.get(usize::from(level.checked_sub(1)?))?;
        if v & !FRAME != VALID | PAGE {
            return None;
        }
        let table = TableRef::new(Pfn((v & FRAME) >> PAGE_SHIFT), TableRef::order_of(bits)?);
        Some(Pte::Table { table, bits })
    }
}

impl<K: Kind> RadixFormat for Entries<K> {
    const BITS: &'static [u8] = &[9, 9, 10];

    #[inline(always)]
    fn decode(raw: u64, level: u8) -> Pte {
        let v = u64::from_le(raw);
        if let Some(table) = Self::decode_table(v, level) {
            return table;
        }
        let known = match v {
            0 => Some(Pte::Hole),
            BUSY => Some(Pte::Transition(Transition::Busy)),
            SPLITTING => Some(Pte::Transition(Transition::Splitting)),
            FROZEN => Some(Pte::Transition(Transition::Frozen)),
            _ => Self::decode_leaf(v, level).map(Pte::Leaf),
        };
        known.unwrap_or(Pte::Transition(Transition::Unknown))
    }

    #[inline(always)]
    fn encode(pte: Pte, level: u8) -> u64 {
        let v = match pte {
            Pte::Hole => 0,
            // None of the others is ever written; busy is what it would mean to whoever met it.
            Pte::Transition(Transition::Busy | Transition::Arriving(_) | Transition::Unknown) | Pte::Swapped(_) => BUSY,
            Pte::Transition(Transition::Splitting) => SPLITTING,
            Pte::Transition(Transition::Frozen) => FROZEN,
            Pte::Table { table, .. } => VALID | PAGE | (table.base().0 << PAGE_SHIFT & FRAME),
            Pte::Leaf(leaf) => Self::encode_leaf(&leaf, level),
        };
        v.to_le()
    }

    #[inline(always)]
    fn protected(raw: u64, level: u8, along: Rc) -> Option<u64> {
        let v = u64::from_le(raw);
        let (every, frame) = Self::leaf(level)?;
        let drop_changed = along.contains(Rc::CHANGED);
        let kept = if along.contains(Rc::REFERENCED) { v & !ACCESS } else { v };
        let weaker = if Self::HARDWARE {
            if v & !(frame | READ | WRITE | ACCESS | NO_EXECUTION) != every | DBM {
                return None;
            }
            // The mark stays without the permission: it moves to software's bit.
            let changed = if drop_changed { 0 } else { (v & WRITE) << (CHANGED.ilog2() - WRITE.ilog2()) };
            kept & !(DBM | WRITE) | changed
        } else {
            if v & !(frame | READ | ACCESS | NO_EXECUTION | CHANGED) != every | WRITE {
                return None;
            }
            kept & !(WRITE | if drop_changed { CHANGED } else { 0 })
        };
        Some(weaker.to_le())
    }
}

impl<K: Kind> Stage2Format for Entries<K> {
    const LEAVES: Orders = Orders::NONE.with(Order::PAGE).with(Order::MIB2).with(Order::GIB);
    fn dirty() -> DirtyMethod {
        K::DIRTY
    }
}

#[cfg(test)]
mod tests;
