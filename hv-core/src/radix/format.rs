//! What a table entry can mean. The one vocabulary that all formats decode to.

use bitflags::bitflags;

use crate::addr::{Order, Pfn};

bitflags! {
    /// What accesses a translation allows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Prot: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
    }
}

bitflags! {
    /// What hardware recorded about the use of a translation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rc: u8 {
        /// It was used (R, A, AF).
        const REFERENCED = 1;
        /// It was stored through (C, D).
        const CHANGED = 2;
    }
}

/// Names a table page. Made by [`crate::machine::Machine::alloc_table`] and by formats decoding an entry that holds one;
/// nothing else may make one, since what it names is believed to be a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRef {
    base: Pfn,
    order: Order,
}

impl TableRef {
    /// The table in the `order.pages()` frames from `base`. See the type for who may call this.
    #[must_use]
    pub const fn new(base: Pfn, order: Order) -> Self {
        Self { base, order }
    }

    /// Its first frame.
    #[must_use]
    pub const fn base(self) -> Pfn {
        self.base
    }

    /// Its size.
    #[must_use]
    pub const fn order(self) -> Order {
        self.order
    }

    /// The order of a table with `bits` index bits, of 8-byte entries: at least one page.
    #[must_use]
    pub const fn order_of(bits: u8) -> Option<Order> {
        Order::new(bits.saturating_sub(9))
    }
}

/// A translation: what a leaf entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The first frame; aligned to the size of the leaf's level.
    pub pfn: Pfn,
    /// What it allows.
    pub prot: Prot,
    /// What hardware recorded.
    pub rc: Rc,
}

/// Names a page in a store ([`crate::page::Store`]), as a frame number names one in memory: who holds the
/// [`crate::page::Token`], or stores the place, owns what is kept there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64);

impl Place {
    /// Bits of a place: it shares a table entry with a code.
    pub const BITS: u32 = 52;

    /// The place with this number; `None` if it has more than [`Place::BITS`].
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number >> Self::BITS == 0 { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Why an entry may not be used or changed just now (R3). All of them read as "not present" to hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// One CPU owns the entry and is about to store its new value.
    Busy,
    /// A large leaf is being replaced by a table of smaller ones.
    Splitting,
    /// The table page that holds this entry is going away: start over at the root.
    Frozen,
    /// One CPU is bringing a page back from this place, which is that CPU's from now on. Host tables only. Unlike the
    /// others it may be taken away: the CPU finds out, and gives up what it brought ([`crate::host`], `swap.rs`).
    Arriving(Place),
    /// No value that this format writes. Nothing may be concluded from it and nothing stored over it.
    Unknown,
}

/// One decoded entry. The word it was decoded from travels beside it, in [`super::walk::Seen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pte {
    /// Nothing here.
    Hole,
    /// Give up and try again.
    Transition(Transition),
    /// The next table, which has `2^bits` entries.
    Table {
        /// Where it is.
        table: TableRef,
        /// Its index bits.
        bits: u8,
    },
    /// A translation.
    Leaf(Leaf),
    /// A page that a store keeps. Host tables only, at the leaf level.
    Swapped(Place),
}
