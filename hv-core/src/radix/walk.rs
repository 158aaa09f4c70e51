//! The lockless walk. Each entry is read exactly once into a local, and everything is decided from that local (R1).

use super::Radix;
use crate::addr::Order;
use crate::epoch::WalkGuard;
use crate::isa::RadixFormat;
use crate::machine::Machine;
use crate::radix::format::{Pte, TableRef, Transition};
use crate::sync::{AtomicU64, Ordering};

/// Where a walk stands: a table and how many key bits its entries leave unused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub table: TableRef,
    /// Index bits of this table.
    pub bits: u8,
    pub level: u8,
    /// Key bits below this table's index: the order of a leaf in it.
    pub below: u8,
    /// Index bits of the tables below, leaf level first. What the format says, never what an entry says: the compiler
    /// then knows every shift and mask of a walk, and unrolls it.
    lower: &'static [u8],
}

impl Node {
    /// The root of a table of format `F`.
    #[inline(always)]
    pub fn root<F: RadixFormat>(table: TableRef) -> Option<Self> {
        let (&bits, lower) = F::BITS.split_last()?;
        let (level, below) = (u8::try_from(lower.len()).ok()?, <F as Geometry>::BELOW_ROOT);
        let table = TableRef::new(table.base(), TableRef::order_of(bits)?);
        Some(Self { table, bits, level, below, lower })
    }

    /// A table at `level` of the format `F`; `None` if it has no such level.
    #[inline(always)]
    pub fn at<F: RadixFormat>(table: TableRef, level: u8) -> Option<Self> {
        let (lower, _) = F::BITS.split_at_checked(usize::from(level))?;
        let bits = *F::BITS.get(usize::from(level))?;
        let below = lower.iter().fold(0_u8, |sum, b| sum.saturating_add(*b));
        // Every table has the size that its level prescribes, which here is a constant.
        let table = TableRef::new(table.base(), TableRef::order_of(bits)?);
        Some(Self { table, bits, level, below, lower })
    }

    /// The entry number of `key` in this table.
    #[inline(always)]
    pub fn slot(&self, key: u64) -> usize {
        let index = key.checked_shr(u32::from(self.below)).unwrap_or(0);
        (index & mask(self.bits)) as usize
    }

    /// The order of a leaf in this table. Geometry keeps it far below [`Order::MAX`].
    #[inline(always)]
    pub fn leaf_order(&self) -> Order {
        Order::new(self.below).unwrap_or(Order::MAX)
    }

    /// The table that an entry of this one names; `None` if no such table can be below this one.
    #[inline(always)]
    pub fn child(&self, table: TableRef, bits: u8) -> Option<Self> {
        let (&expected, lower) = self.lower.split_last()?;
        if bits != expected {
            return None;
        }
        Some(Self { table, bits, level: self.level.checked_sub(1)?, below: self.below.checked_sub(bits)?, lower })
    }

    /// The bits of `key` that lead to this table.
    #[inline(always)]
    pub fn above(&self, key: u64) -> u64 {
        key & !mask_wide(u32::from(self.below).saturating_add(u32::from(self.bits)))
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        1_usize.checked_shl(u32::from(self.bits)).unwrap_or(0)
    }

    /// The first key that entry `slot` covers, in the table that covers `key`.
    pub fn key_of(&self, key: u64, slot: usize) -> u64 {
        let whole = u32::from(self.below) + u32::from(self.bits);
        let base = key & !mask_wide(whole);
        base | ((slot as u64).checked_shl(u32::from(self.below)).unwrap_or(0) & mask_wide(whole))
    }
}

/// The bits of an index of so many bits.
#[inline]
pub(super) fn mask(bits: u8) -> u64 {
    mask_wide(u32::from(bits))
}

#[inline]
fn mask_wide(bits: u32) -> u64 {
    1_u64.checked_shl(bits).map_or(u64::MAX, |v| v.wrapping_sub(1))
}

/// What follows from a format's index bits, as constants: where code is to be small every walk would call a function for a sum.
trait Geometry: RadixFormat {
    /// Key bits below the root's index.
    const BELOW_ROOT: u8 = match Self::BITS {
        [lower @ .., _] => sum(lower),
        [] => 0,
    };
    /// Key bits that are translated.
    const REACH: u32 = sum(Self::BITS) as u32;
}

impl<F: RadixFormat> Geometry for F {}

const fn sum(mut bits: &[u8]) -> u8 {
    let mut sum = 0_u8;
    while let [first, rest @ ..] = bits {
        (sum, bits) = (sum.saturating_add(*first), rest);
    }
    sum
}

/// True if `key` has no bits beyond what the geometry of `F` translates.
#[must_use]
pub fn in_reach<F: RadixFormat>(key: u64) -> bool {
    key & !mask_wide(<F as Geometry>::REACH) == 0
}

/// What a walk met: the entry's cell, the word read from it, and what that word meant.
#[derive(Debug)]
pub struct Seen<'g> {
    pub(super) cell: &'g AtomicU64,
    /// The word, exactly as read.
    pub raw: u64,
    /// Its meaning.
    pub pte: Pte,
    /// The entry's level, 0 = leaf level.
    pub level: u8,
    /// The size of a leaf at this entry.
    pub order: Order,
}

/// Reads the entry of `key` in one table.
#[inline(always)]
pub(super) fn look<'g, F: RadixFormat, M: Machine>(m: &'g M, g: &'g WalkGuard<'_>, node: Node, key: u64) -> Seen<'g> {
    let cell = m.pte(g, node.table, node.slot(key));
    // Acquire pairs with the release of whoever published a table below this entry.
    let raw = cell.load(Ordering::Acquire);
    Seen { cell, raw, pte: F::decode(raw, node.level), level: node.level, order: node.leaf_order() }
}

/// What [`look`] answers, by a call: for whoever is not on the way of a fault.
#[inline(never)]
pub(super) fn read<'g, F: RadixFormat, M: Machine>(m: &'g M, g: &'g WalkGuard<'_>, node: Node, key: u64) -> Seen<'g> {
    look::<F, M>(m, g, node, key)
}

/// Goes down from `node` until an entry that is no table; says in which table that is.
#[inline(always)]
pub(super) fn descend<'g, F: RadixFormat, M: Machine>(
    m: &'g M,
    g: &'g WalkGuard<'_>,
    mut node: Node,
    key: u64,
) -> (Node, Seen<'g>) {
    loop {
        let mut seen = look::<F, M>(m, g, node, key);
        let Pte::Table { table, bits } = seen.pte else { return (node, seen) };
        match node.child(table, bits) {
            Some(child) => node = child,
            None => {
                // A table where none can be: the word is not one of ours.
                seen.pte = Pte::Transition(Transition::Unknown);
                return (node, seen);
            }
        }
    }
}

/// The table where a walk ended, and the bits of a key that lead to it: where the next walk may begin.
///
/// Good only while no table is freed: in the guard of that walk, or under a lock that who frees tables takes.
#[derive(Debug, Default)]
pub struct Near(Option<(Node, u64)>);

impl<F: RadixFormat> Radix<F> {
    /// What [`Radix::walk`] answers, by a look at one entry if that is where the last walk ended. See [`Near`] for when.
    #[inline(always)]
    pub fn walk_near<'g, M: Machine>(
        &self,
        m: &'g M,
        g: &'g WalkGuard<'_>,
        key: u64,
        near: &mut Near,
    ) -> Option<Seen<'g>> {
        if let Some((node, above)) = near.0
            && node.above(key) == above
        {
            let seen = look::<F, M>(m, g, node, key);
            // A table that has come here since, or that has left with this one: from the root.
            if !matches!(seen.pte, Pte::Table { .. } | Pte::Transition(Transition::Frozen)) {
                return Some(seen);
            }
        }
        let (node, seen) = self.entry_in(m, g, key)?;
        near.0 = Some((node, node.above(key)));
        Some(seen)
    }
}

/// Looks keys up one after the other in one guard: a walk for each table, not for each key.
#[derive(Debug)]
pub struct Cursor<'g, F, M> {
    table: &'g Radix<F>,
    m: &'g M,
    g: &'g WalkGuard<'g>,
    near: Near,
}

impl<'g, F: RadixFormat, M: Machine> Cursor<'g, F, M> {
    /// Nothing looked up yet.
    pub fn new(table: &'g Radix<F>, m: &'g M, g: &'g WalkGuard<'g>) -> Self {
        Self { table, m, g, near: Near::default() }
    }

    /// What [`Radix::walk`] answers.
    #[inline(always)]
    pub fn look(&mut self, key: u64) -> Option<Seen<'g>> {
        self.table.walk_near(self.m, self.g, key, &mut self.near)
    }
}

/// Stores every entry of a table with `2^bits` of them that nobody sees yet, in order; whoever publishes the table
/// releases these stores.
#[inline(always)]
pub(super) fn fill<M: Machine>(m: &M, g: &WalkGuard<'_>, table: TableRef, bits: u8, mut word: impl FnMut() -> u64) {
    let mut store = |slot: usize| m.pte(g, table, slot).store(word(), Ordering::Relaxed);
    let len = 1_usize.checked_shl(u32::from(bits)).unwrap_or(0);
    let rows = len / 16;
    for row in 0..rows {
        // Written out: a split is little else.
        let first = row.wrapping_mul(16);
        for n in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] {
            store(first.wrapping_add(n));
        }
    }
    (rows.wrapping_mul(16)..len).for_each(store);
}
