//! The entry formats: extended page tables (Intel SDM vol. 3C, "The Extended Page Table Mechanism"; its sections are
//! named here, because their numbers change with each edition) and nested page tables, which are those of long mode
//! (AMD APM vol. 2, 15.25 and 5.3).
//!
//! ```text
//!        63  54:52      51:12   9  8   7      6      5:3        2  1  0
//!   EPT  0   withheld   frame   D  A   large  as is  type = 6   X  W  R         a leaf
//!   EPT  0   0          table   0  1   0      0      0          1  1  1         a table
//!   NPT  NX  withheld   frame   0  0   large  D      A 0 0      U  W  P         a leaf
//!   NPT  0   0          table   0  0   0      0      1 0 0      1  1  1         a table
//!        0   0          0       0  0   0      0      0 which    0  0  0         software's: a transition
//! ```
//!
//! Geometry: 48 bits of guest physical address = 9 + 9 + 9 + 9 + 12, a four-level walk. Leaves of 4 KiB, 2 MiB and 1
//! GiB; none in the root. Not every processor has those of 1 GiB: see `X86Stage2`.
//!
//! **What neither format can say.** Both take reading for granted: an EPT entry that allows stores and no loads is a
//! misconfiguration, one that allows fetches alone is one on some processors ("EPT Misconfigurations"), and a nested
//! entry has no bit for loads at all. Such a leaf is written as not present, with what it would allow in bits that
//! hardware then ignores: it *withholds* rights, it never gives any that nobody asked for. hv-core's guests are never
//! given one.
//!
//! **Marks.** Hardware may set the accessed bit of any entry, and compare-and-swaps would have to expect it. Entries of
//! tables are written with theirs set, so that the marks of leaves are all that hardware ever changes. Without marks in
//! hardware EPT ignores the two bits (EPTP bit 6), and they are software's.

use core::fmt::Debug;
use core::marker::PhantomData;

use hv_core::addr::{Order, Orders, PAGE_SHIFT, Pfn};
use hv_core::isa::{DirtyMethod, RadixFormat};
use hv_core::radix::Stage2Format;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef, Transition};

/// May be read; in a nested table, is present. The same bit in both.
const READ: u64 = 1;
/// May be stored to. The same bit in both.
const WRITE: u64 = 1 << 1;
/// A leaf above the leaf level. The same bit in both.
const LARGE: u64 = 1 << 7;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// What a leaf that is not present would allow: the bits of [`Prot`]. Hardware ignores them there, and they stay clear
/// everywhere else.
const WITHHELD: u64 = 7 << WITHHELD_AT;
const WITHHELD_AT: u32 = 52;

const BUSY: u64 = 1 << 3;
const SPLITTING: u64 = 2 << 3;
const FROZEN: u64 = 3 << 3;

/// What a processor makes of entries.
pub trait Kind: Debug + 'static {
    /// Bits that every leaf has, present or not: none of them makes it present.
    const LEAF: u64;
    /// Bits that every entry of a table has.
    const TABLE: u64;
    /// It was used.
    const ACCESSED: u64;
    /// It was stored to.
    const CHANGED: u64;
    /// Has to be set to allow fetches; none if that is what is not forbidden.
    const EXEC: u64;
    /// Forbids fetches if set.
    const NO_EXEC: u64;
    /// Any of these makes an entry present.
    const PRESENT: u64;
    /// Who notes stores.
    const DIRTY: DirtyMethod;
}

/// EPT whose accessed and dirty bits hardware sets.
#[derive(Debug)]
pub enum EptMarks {}

/// EPT without such bits.
#[derive(Debug)]
pub enum EptTrap {}

/// Nested page tables. Hardware has always set their accessed and dirty bits (15.25.5).
#[derive(Debug)]
pub enum Npt {}

/// Bits 5:3 are the memory type, 6 is write-back; bit 6 keeps a guest's PAT from changing that, so that no guest reaches
/// memory past the caches through which Trivet does ("EPT and Memory Typing").
const EPT_MEMORY: u64 = 6 << 3 | 1 << 6;
const EPT_ACCESSED: u64 = 1 << 8;
const EPT_CHANGED: u64 = 1 << 9;
const EPT_EXEC: u64 = 1 << 2;

impl Kind for EptMarks {
    const LEAF: u64 = EPT_MEMORY;
    const TABLE: u64 = READ | WRITE | EPT_EXEC | EPT_ACCESSED;
    const ACCESSED: u64 = EPT_ACCESSED;
    const CHANGED: u64 = EPT_CHANGED;
    const EXEC: u64 = EPT_EXEC;
    const NO_EXEC: u64 = 0;
    const PRESENT: u64 = READ | WRITE | EPT_EXEC;
    const DIRTY: DirtyMethod = DirtyMethod::HardwareBits;
}

impl Kind for EptTrap {
    const LEAF: u64 = EptMarks::LEAF;
    const TABLE: u64 = EptMarks::TABLE;
    const ACCESSED: u64 = EptMarks::ACCESSED;
    const CHANGED: u64 = EptMarks::CHANGED;
    const EXEC: u64 = EptMarks::EXEC;
    const NO_EXEC: u64 = EptMarks::NO_EXEC;
    const PRESENT: u64 = EptMarks::PRESENT;
    const DIRTY: DirtyMethod = DirtyMethod::WriteProtect;
}

impl Kind for Npt {
    /// Nested walks are a user's (15.25.5). PWT, PCD and PAT clear: entry 0 of the host's PAT, which is write-back.
    const LEAF: u64 = 1 << 2;
    const TABLE: u64 = READ | WRITE | Self::LEAF | Self::ACCESSED;
    const ACCESSED: u64 = 1 << 5;
    const CHANGED: u64 = 1 << 6;
    const EXEC: u64 = 0;
    const NO_EXEC: u64 = 1 << 63;
    const PRESENT: u64 = READ;
    const DIRTY: DirtyMethod = DirtyMethod::HardwareBits;
}

/// The bits of one kind, as numbers: see [`Kind`].
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "they are the constants of `Kind`")]
pub struct Bits {
    pub leaf: u64,
    pub table: u64,
    pub accessed: u64,
    pub changed: u64,
    pub exec: u64,
    pub no_exec: u64,
    pub present: u64,
    pub dirty: DirtyMethod,
}

impl Bits {
    /// Those of a kind.
    #[must_use]
    pub const fn of<K: Kind>() -> Self {
        Self {
            leaf: K::LEAF,
            table: K::TABLE,
            accessed: K::ACCESSED,
            changed: K::CHANGED,
            exec: K::EXEC,
            no_exec: K::NO_EXEC,
            present: K::PRESENT,
            dirty: K::DIRTY,
        }
    }
}

/// Where entries have their bits from: a kind, or, in the image, the kind that this machine has (`found`).
pub trait Source: Debug + 'static {
    /// The bits, always the same.
    fn bits() -> Bits;
}

impl<K: Kind> Source for K {
    #[inline(always)]
    fn bits() -> Bits {
        Bits::of::<K>()
    }
}

/// Stage 2 entries of one kind.
#[derive(Debug)]
pub struct Entries<K>(PhantomData<fn() -> K>);

impl<K: Source> Entries<K> {
    /// The bits that say what a present leaf allows.
    #[inline(always)]
    fn rights() -> u64 {
        READ | WRITE | K::bits().exec | K::bits().no_exec
    }

    /// A leaf at `level`: the bits that every one has, and where its frame stands. `None` where there are none.
    #[inline(always)]
    fn leaf(level: u8) -> Option<(u64, u64)> {
        match level {
            0 => Some((K::bits().leaf, FRAME)),
            1 => Some((K::bits().leaf | LARGE, FRAME & !(Order::MIB2.bytes() - 1))),
            2 => Some((K::bits().leaf | LARGE, FRAME & !(Order::GIB.bytes() - 1))),
            _ => None,
        }
    }

    #[inline(always)]
    fn decode_leaf(v: u64, level: u8) -> Option<Leaf> {
        let (every, frame) = Self::leaf(level)?;
        let says = if v & K::bits().present != 0 { Self::rights() } else { WITHHELD };
        if v & !(frame | K::bits().accessed | K::bits().changed | says) != every {
            return None;
        }
        let prot = if v & K::bits().present != 0 {
            if v & READ == 0 {
                return None;
            }
            let mut prot = Prot::READ;
            prot.set(Prot::WRITE, v & WRITE != 0);
            prot.set(Prot::EXEC, v & (K::bits().exec | K::bits().no_exec) == K::bits().exec);
            prot
        } else {
            // Only what cannot be given is withheld.
            let prot = Prot::from_bits_truncate((v >> WITHHELD_AT) as u8);
            if prot.contains(Prot::READ) {
                return None;
            }
            prot
        };
        let mut rc = Rc::empty();
        rc.set(Rc::REFERENCED, v & K::bits().accessed != 0);
        rc.set(Rc::CHANGED, v & K::bits().changed != 0);
        Some(Leaf { pfn: Pfn((v & frame) >> PAGE_SHIFT), prot, rc })
    }

    #[inline(always)]
    fn encode_leaf(leaf: &Leaf, level: u8) -> u64 {
        // Where no leaf can be, one is nothing that anybody may use. Off its alignment it would be a misconfiguration.
        let Some((every, frame)) = Self::leaf(level) else { return BUSY };
        if leaf.pfn.0 & !(frame >> PAGE_SHIFT) != 0 {
            return BUSY;
        }
        let set = |when: bool, bits: u64| if when { bits } else { 0 };
        let rights = if leaf.prot.contains(Prot::READ) {
            let exec = if leaf.prot.contains(Prot::EXEC) { K::bits().exec } else { K::bits().no_exec };
            READ | set(leaf.prot.contains(Prot::WRITE), WRITE) | exec
        } else {
            u64::from(leaf.prot.bits()) << WITHHELD_AT
        };
        every
            | leaf.pfn.0 << PAGE_SHIFT
            | rights
            | set(leaf.rc.contains(Rc::REFERENCED), K::bits().accessed)
            | set(leaf.rc.contains(Rc::CHANGED), K::bits().changed)
    }

    #[inline(always)]
    fn decode_table(v: u64, level: u8) -> Option<Pte> {
        // One comparison: every walk asks at every level.
        let bits = *Self::BITS.get(usize::from(level.checked_sub(1)?))?;
        if v & !FRAME != K::bits().table {
            return None;
        }
        let table = TableRef::new(Pfn((v & FRAME) >> PAGE_SHIFT), TableRef::order_of(bits)?);
        Some(Pte::Table { table, bits })
    }
}

impl<K: Source> RadixFormat for Entries<K> {
    const BITS: &'static [u8] = &[9, 9, 9, 9];

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
            Pte::Table { table, .. } => K::bits().table | (table.base().0 << PAGE_SHIFT & FRAME),
            Pte::Leaf(leaf) => Self::encode_leaf(&leaf, level),
        };
        v.to_le()
    }

    #[inline(always)]
    fn protected(raw: u64, level: u8, along: Rc) -> Option<u64> {
        let v = u64::from_le(raw);
        let (every, frame) = Self::leaf(level)?;
        let shape = v & !(frame | K::bits().accessed | K::bits().changed | K::bits().exec | K::bits().no_exec);
        let gone = if shape == every | READ | WRITE {
            WRITE
        } else {
            // Stores that a leaf withholds are taken from it as well.
            const STORES: u64 = (Prot::WRITE.bits() as u64) << WITHHELD_AT;
            const FETCHES: u64 = (Prot::EXEC.bits() as u64) << WITHHELD_AT;
            if v & !(frame | K::bits().accessed | K::bits().changed | FETCHES) != every | STORES {
                return None;
            }
            STORES
        };
        let referenced = if along.contains(Rc::REFERENCED) { K::bits().accessed } else { 0 };
        let changed = if along.contains(Rc::CHANGED) { K::bits().changed } else { 0 };
        Some((v & !(gone | referenced | changed)).to_le())
    }
}

impl<K: Source> Stage2Format for Entries<K> {
    const LEAVES: Orders = Orders::NONE.with(Order::PAGE).with(Order::MIB2).with(Order::GIB);
    #[inline(always)]
    fn dirty() -> DirtyMethod {
        K::bits().dirty
    }
}

#[cfg(test)]
mod tests;
