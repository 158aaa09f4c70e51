//! What the two words of an entry mean, and where an entry may be.
//!
//! ```text
//!   first    63        12 | 9   4 |  2   |  1     |  0    |
//!            | gfn        | order | LOCK | ABSENT | VALID |      neither ABSENT nor VALID: free
//!   second   63        12 | 5   4 | 2  0 |
//!            | pfn        | C, R  | prot |                       of an absent entry, R and C only
//! ```

use hv_core::addr::{Gfn, Order, Pfn};
use hv_core::radix::format::{Leaf, Prot, Rc};

use crate::cells::CHECKED;

/// Hardware may use it.
pub const VALID: u64 = 1 << 0;
/// The guest has put it there, and the hypervisor has not answered yet, or has taken its answer back.
pub const ABSENT: u64 = 1 << 1;
/// Somebody changes it.
pub const LOCK: u64 = 1 << 2;
const ORDER_SHIFT: u32 = 4;
const ORDER_MASK: u64 = 0x3f;
const RC_SHIFT: u32 = 4;
const NUMBER_SHIFT: u32 = 12;

/// Entries of a group: an address may be in any of them.
pub const GROUP: usize = if CHECKED { 2 } else { 8 };

/// The sizes that an entry can have, largest first.
pub const ORDERS: &[Order] = match Order::new(1) {
    Some(pair) if CHECKED => &[pair, Order::PAGE],
    _ => &[Order::MIB2, Order::PAGE],
};

/// What a fault must still find when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The entry.
    pub index: usize,
    /// Its words when the guest faulted.
    pub words: Words,
}

/// The two words of an entry, without its lock and without what hardware may add at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    first: u64,
    second: u64,
}

impl Words {
    /// What these two words say.
    pub fn new(first: u64, second: u64) -> Self {
        Self { first: first & !LOCK, second: second & !rc_bits(Rc::all()) }
    }

    /// An entry that the guest puts.
    pub fn absent(gfn: Gfn, order: Order) -> u64 {
        gfn.0 << NUMBER_SHIFT | u64::from(order.get()) << ORDER_SHIFT | ABSENT
    }

    /// True if nobody uses the entry.
    pub fn is_free(self) -> bool {
        self.first & (VALID | ABSENT) == 0
    }

    /// True if hardware may use it.
    pub fn is_valid(self) -> bool {
        self.first & VALID != 0
    }

    /// The first word as valid, or as absent.
    pub fn state(self, state: u64) -> u64 {
        self.first & !(VALID | ABSENT) | state
    }

    /// The first guest frame.
    pub fn gfn(self) -> Gfn {
        Gfn(self.first >> NUMBER_SHIFT)
    }

    /// The size that the guest chose.
    pub fn order(self) -> Order {
        Order::new((self.first >> ORDER_SHIFT & ORDER_MASK) as u8).unwrap_or(Order::MAX)
    }

    /// True if it is used for exactly this block.
    pub fn is_for(self, gfn: Gfn, order: Order) -> bool {
        !self.is_free() && self.gfn() == gfn && self.order() == order
    }
}

/// What a second word translates to.
pub fn leaf(second: u64) -> Leaf {
    Leaf {
        pfn: Pfn(second >> NUMBER_SHIFT),
        prot: Prot::from_bits_truncate((second & 0x7) as u8),
        rc: Rc::from_bits_truncate((second >> RC_SHIFT & 0x3) as u8),
    }
}

/// The second word that translates so.
pub fn second(leaf: Leaf) -> u64 {
    leaf.pfn.0 << NUMBER_SHIFT | rc_bits(leaf.rc) | u64::from(leaf.prot.bits())
}

/// R and C where the second word has them.
pub fn rc_bits(rc: Rc) -> u64 {
    u64::from(rc.bits()) << RC_SHIFT
}

/// The first entry of the group where a block's entry may be, in a table of so many entries.
pub fn group_of(gfn: Gfn, order: Order, entries: usize) -> usize {
    let groups = entries / GROUP;
    let mixed = (gfn.0 >> order.get()).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ u64::from(order.get());
    (mixed % groups.max(1) as u64) as usize * GROUP
}
