//! The table in memory: its entries, and the two words that the hypervisor keeps for each.
//!
//! ```text
//!   table   entry i at 16 i          v, r, which hardware reads; of them it changes R and C, in r, and nothing else
//!   notes   entry i at 16 i          view: r as the guest gave it; links: see rmap.rs
//!   heads   one word a guest frame   see rmap.rs
//! ```

use alloc::sync::Arc;

use hv_core::addr::{Gfn, Order, PAGE_SHIFT};
use hv_core::epoch::WalkGuard;
use hv_core::isa::VmTag;
use hv_core::machine::Machine;
use hv_core::mmu::ready::Readiness;
use hv_core::radix::format::TableRef;
use hv_core::sync::{AtomicU64, SMALL};

use super::entry::Entry;
use super::place;
use super::words::Layout;

/// Entries of a group: an address may be in any of them.
pub const GROUP: u64 = if SMALL { 2 } else { 8 };
/// The smallest table there is, 256 KiB, and the largest that is made, 4 GiB.
pub const SIZES: core::ops::RangeInclusive<u8> = if SMALL { 0..=0 } else { 6..=20 };
/// Words of a frame that the machine has; a model checker's have fewer.
const WORDS: u64 = if SMALL { 8 } else { 1 << (PAGE_SHIFT - 3) };

/// What a hashed table needs of its machine.
pub trait Processor: Machine {
    /// The form of entries in memory.
    fn layout(&self) -> Layout;
    /// What the VM with this tag was configured with; `None` if it is to have another kind of table.
    fn hashed(&self, tag: VmTag) -> Option<Config>;
    /// Who may run the VM with this tag, in each of its lives: made before any guest runs. `None` for a tag too many.
    fn readiness(&self, tag: VmTag) -> Option<Arc<Readiness>>;
    /// Makes every CPU drop the translations of these entries, which are no longer valid in memory, and waits for the
    /// accesses that used them: afterwards R and C are final (R14). Hardware's work alone: it waits for no software,
    /// and is called with entries locked, inside walks, and in real mode.
    fn flush_entries(&self, tag: VmTag, entries: &[Gone]);
    /// Has hardware find the VM's table by this first doubleword of its partition entry from now on. CPUs that are in the guest
    /// may go by the old one until the next [`Machine::flush`] of everything.
    fn go_by(&self, tag: VmTag, entry: u64);
}

/// An entry that is no longer valid in memory, and may be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its number.
    pub index: u64,
    /// Its words, as guests know them.
    pub v: u64,
    /// See `v`; with the real page number.
    pub r: u64,
    /// The first guest frame.
    pub gfn: Gfn,
    /// How much it translated.
    pub order: Order,
}

impl Gone {
    /// What `tlbie` is given in RB to have it dropped; `None` if its words are no entry's.
    #[must_use]
    #[inline(always)]
    pub fn tlbie_operand(&self) -> Option<u64> {
        place::tlbie_operand(self.v, self.r, self.index / GROUP)
    }
}

/// What a VM's table is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The table's size.
    pub size: Order,
    /// The largest page that the guest may ask for: its memory is there in naturally aligned runs of so many pages.
    pub granule: Order,
}

impl Config {
    /// The table for so many bytes of RAM: one entry for each 2 KiB, that is, two for each page, as PAPR recommends.
    #[must_use]
    pub fn for_ram(bytes: u64, granule: Order) -> Self {
        let size = Order::covering((bytes >> 7).div_ceil(1 << PAGE_SHIFT).max(1)).unwrap_or(Order::MAX);
        let size = Order::new(size.get().clamp(*SIZES.start(), *SIZES.end())).unwrap_or(Order::PAGE);
        Self { size, granule }
    }
}

/// Where the parts of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Entries.
    pub table: TableRef,
    /// The hypervisor's notes on them.
    pub notes: TableRef,
    /// The reverse map's heads.
    pub heads: TableRef,
    /// The entries' form.
    pub layout: Layout,
    /// How many tables the guest has had before this one.
    pub number: u64,
}

impl Parts {
    /// How many entries the table has, a power of two.
    #[inline]
    pub fn entries(&self) -> u64 {
        self.table.order().pages() * WORDS / 2
    }

    /// How many groups.
    pub fn groups(&self) -> u64 {
        self.entries() / GROUP
    }

    /// How many heads, a power of two.
    #[inline]
    pub fn heads(&self) -> u64 {
        self.heads.order().pages() * WORDS
    }

    /// The links of entry `index`, as [`Parts::entry`] has them.
    #[inline]
    pub(super) fn links<'g, M: Machine>(&self, m: &'g M, g: &'g WalkGuard<'_>, index: u64) -> &'g AtomicU64 {
        m.pte(g, self.notes, 2 * (index & self.entries().wrapping_sub(1)) as usize + 1)
    }

    /// Entry `index`; what is beyond the table is confined to it.
    #[inline]
    pub fn entry<'g, M: Machine>(&self, m: &'g M, g: &'g WalkGuard<'_>, index: u64) -> Entry<'g> {
        let slot = 2 * (index & self.entries().wrapping_sub(1)) as usize;
        let cell = |table, slot| m.pte(g, table, slot);
        Entry {
            first: cell(self.table, slot),
            second: cell(self.table, slot + 1),
            view: cell(self.notes, slot),
            links: self.links(m, g, index),
            layout: self.layout,
            index,
        }
    }
}
