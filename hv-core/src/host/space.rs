//! One VM's host space: demand-zero memory, given when first touched and taken back by punching.
//!
//! ```text
//!   populate (any CPU, no lock)             punch (under the host lock, inside an open bracket)
//!   walk: a leaf -> that page               leaf -> hole by CAS, frame kept aside
//!   walk: a hole -> take a frame, zero it    ... more leaves ...
//!         CAS hole -> leaf                   grace: no walk holds the frame number any more
//!         lost -> give the frame back        the frames go back to the allocator
//! ```

use heapless::Vec;

use super::format::{HostFormat, LARGEST};
use crate::addr::{Hvn, Order, Pfn};
use crate::epoch::{Cpu, WalkGuard};
use crate::machine::Machine;
use crate::mmu::zap::Bracket;
use crate::page::{GuestFrame, zeroed};
use crate::radix::Radix;
use crate::radix::edit::{EditError, Removed};
use crate::radix::format::{Leaf, Prot, Pte, Rc, TableRef};
use crate::sync::{AtomicU64, Ordering, Rank, Ranked, RankedGuard};

/// How many frames one step of a punch holds before it waits for a grace period.
const FRAMES_AT_ONCE: usize = 64;
/// How many table pages.
const TABLES_AT_ONCE: usize = 8;

/// A VM's host table and what it accounts for.
#[derive(Debug)]
pub struct HostSpace {
    table: Radix<HostFormat>,
    resident: AtomicU64,
    lock: Ranked<()>,
}

/// What the host table says of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPage {
    /// The frame of this very page.
    pub pfn: Pfn,
    /// The size of the host leaf it lies in.
    pub order: Order,
    /// What the host side allows.
    pub prot: Prot,
}

/// The answer to a populate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Populate {
    /// The page was there.
    Present(HostPage),
    /// The page is new and zero.
    Fresh(HostPage),
    /// Another CPU is changing the table: try again.
    Retry,
    /// No frame for the page or for a table above it.
    NoMemory,
    /// Beyond the host space.
    OutOfReach,
}

/// What a look at the table found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// A page.
    Page(HostPage),
    /// Nothing yet: reads as zeros.
    Absent,
    /// In transition: try again.
    Retry,
    /// Beyond the host space.
    OutOfReach,
}

/// What one step of a punch took out: frames that a walk, though no translation, may still know of.
#[derive(Debug, Default)]
#[must_use = "frames and tables are freed by HostSpace::release"]
pub struct Punched {
    frames: Vec<GuestFrame, FRAMES_AT_ONCE>,
    tables: Vec<TableRef, TABLES_AT_ONCE>,
}

impl Removed for Punched {
    fn room(&self) -> bool {
        !self.frames.is_full() && !self.tables.is_full()
    }

    fn leaf(&mut self, _key: u64, order: Order, leaf: Leaf) {
        let pushed = self.frames.push(GuestFrame::owned(leaf.pfn, order));
        debug_assert!(pushed.is_ok(), "room() was not asked");
    }

    fn table(&mut self, table: TableRef) {
        let pushed = self.tables.push(table);
        debug_assert!(pushed.is_ok(), "room() was not asked");
    }
}

impl HostSpace {
    /// An empty host space; `None` if there is no memory for its root.
    pub fn new<M: Machine>(cpu: &Cpu, m: &M) -> Option<Self> {
        Some(Self { table: Radix::new(cpu, m)?, resident: AtomicU64::new(0), lock: Ranked::new(Rank::Host, ()) })
    }

    /// Looks a page up. The answer's frame stays what it is while `g` lives, and no longer.
    pub fn peek<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, page: Hvn) -> Peek {
        let Some(seen) = self.table.walk(m, g, page.0) else { return Peek::OutOfReach };
        match seen.pte {
            Pte::Hole => Peek::Absent,
            Pte::Leaf(leaf) => Peek::Page(page_of(page, seen.order, leaf)),
            Pte::Table { .. } | Pte::Transition(_) => Peek::Retry,
        }
    }

    /// Makes sure that a page is there. Takes no lock; the caller holds no guard.
    pub fn populate<M: Machine>(&self, cpu: &Cpu, m: &M, page: Hvn) -> Populate {
        match self.peek(m, &m.epoch().enter(cpu), page) {
            Peek::Page(found) => return Populate::Present(found),
            Peek::Retry => return Populate::Retry,
            Peek::OutOfReach => return Populate::OutOfReach,
            Peek::Absent => {}
        }
        // Zeroed before it can be found: the CAS below releases these stores.
        let Some(frame) = zeroed::take(cpu, m, LARGEST) else { return Populate::NoMemory };
        let leaf = Leaf { pfn: frame.pfn(), prot: Prot::all(), rc: Rc::empty() };
        let done = self.table.map(m, &m.epoch().enter(cpu), page.0, LARGEST, leaf);
        match done {
            Ok(()) => {
                self.resident.fetch_add(LARGEST.pages(), Ordering::Relaxed);
                Populate::Fresh(page_of(page, LARGEST, Leaf { pfn: GuestFrame::from(frame).into_pfn(), ..leaf }))
            }
            Err(error) => {
                zeroed::give(cpu, m, frame);
                match error {
                    EditError::NoTable => Populate::NoMemory,
                    // Occupied: another CPU populated the page first; its frame counts.
                    EditError::Retry | EditError::Occupied => Populate::Retry,
                    EditError::Unfit => Populate::OutOfReach,
                }
            }
        }
    }

    /// Keeps structural changes of this table apart.
    pub fn lock<'a>(&'a self, cpu: &'a Cpu) -> RankedGuard<'a, ()> {
        self.lock.lock(cpu)
    }

    /// Takes leaves out of `range`, which lies in the bracket, as many as one step can hold. Returns them and the page
    /// to go on from.
    ///
    /// The bracket proves that no translation of these pages exists, nor can be made, so that with a grace period the
    /// frames are free. The caller holds [`HostSpace::lock`].
    pub fn punch<M: Machine>(&self, cpu: &Cpu, m: &M, bracket: &Bracket, from: Hvn) -> (Punched, Hvn) {
        let mut out = Punched::default();
        let end = bracket.range().end();
        let next = self.table.unmap(m, &m.epoch().enter(cpu), from.0, end.0, &mut out);
        self.resident.fetch_sub(out.frames.len() as u64 * LARGEST.pages(), Ordering::Relaxed);
        (out, Hvn(next))
    }

    /// Unlinks tables that hold nothing any more and lie wholly in the bracket, as many as one step can hold.
    pub fn prune<M: Machine>(&self, cpu: &Cpu, m: &M, bracket: &Bracket) -> Punched {
        let mut out = Punched::default();
        let (from, to) = (bracket.range().start().0, bracket.range().end().0);
        self.table.prune(m, &m.epoch().enter(cpu), from, to, &mut out);
        out
    }

    /// Waits for a grace period and frees what was taken out. True if there was anything.
    pub fn release<M: Machine>(&self, cpu: &Cpu, m: &M, mut taken: Punched) -> bool {
        if taken.frames.is_empty() && taken.tables.is_empty() {
            return false;
        }
        let grace = m.epoch().synchronize(cpu);
        while let Some(frame) = taken.frames.pop() {
            m.frames().free_guest(cpu, grace.retire(frame));
        }
        while let Some(table) = taken.tables.pop() {
            m.free_table(cpu, grace.retire(table));
        }
        true
    }

    /// Frames that hold guest memory.
    pub fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Frames that hold the table.
    pub fn table_frames(&self) -> u64 {
        self.table.frames()
    }

    /// Frees everything. No CPU uses the space any more, and no translation of its frames is left anywhere.
    pub fn destroy<M: Machine>(self, cpu: &Cpu, m: &M) {
        let grace = m.epoch().synchronize(cpu);
        self.table.destroy(cpu, m, |_, order, leaf| {
            m.frames().free_guest(cpu, grace.retire(GuestFrame::owned(leaf.pfn, order)));
        });
    }
}

/// The frame of `page` in a leaf of `order` that covers it.
fn page_of(page: Hvn, order: Order, leaf: Leaf) -> HostPage {
    let inside = page.0 - order.align_down(page.0);
    HostPage { pfn: Pfn(leaf.pfn.0 | inside), order, prot: leaf.prot }
}
