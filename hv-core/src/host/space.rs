//! One VM's host space: its regions, the table, and a look at it.
//!
//! Locks. [`HostSpace::lock`] (rank Host) keeps structural changes apart: taking pages away, splitting, collapsing,
//! freeing tables. A first touch takes no lock: it changes holes only, and by CAS. So under the lock a hole may become a
//! leaf or a table at any time, and nothing else moves. Rules: R2, R4, R20.

use crate::addr::{Hvn, Order, Pfn};
use crate::epoch::{Cpu, WalkGuard};
use crate::host::counts::Counts;
use crate::host::region::{Backing, Regions};
use crate::host::{HostFormat, HostStats};
use crate::isa::Isa;
use crate::machine::Machine;
use crate::page::{GuestFrame, Token};
use crate::radix::Radix;
use crate::radix::format::{Leaf, Prot, Pte, TableRef};
use crate::radix::walk::{Cursor, Seen};
use crate::sync::{AtomicU64, Rank, Ranked, RankedGuard};

/// A VM's host table and what it accounts for.
#[derive(Debug)]
pub struct HostSpace<I: Isa> {
    pub(super) table: Radix<HostFormat>,
    pub(super) regions: Regions<I>,
    pub(super) counts: Counts,
    /// Where the last reclaim stopped: a host page. Written by reclaimers, of which there is one.
    pub(super) hand: AtomicU64,
    lock: Ranked<()>,
}

/// What the host table says of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPage {
    /// The frame of this very page.
    pub pfn: Pfn,
    /// The size of the host leaf it lies in, or of the run if that is larger: so much lies side by side.
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
    /// In no region.
    OutOfReach,
}

/// What a look at the table found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// A page.
    Page(HostPage),
    /// Nothing yet: reads as zeros.
    Absent,
    /// The store has it: populate it.
    Swapped,
    /// In transition: try again.
    Retry,
    /// Beyond the host space.
    OutOfReach,
}

impl<I: Isa> HostSpace<I> {
    /// An empty host space of these regions; `None` if there is no memory for its root.
    pub fn new(cpu: &Cpu, m: &I::Machine, regions: Regions<I>) -> Option<Self> {
        let (counts, hand, lock) = (Counts::new(), AtomicU64::new(0), Ranked::new(Rank::Host, ()));
        Some(Self { table: Radix::new(cpu, m)?, regions, counts, hand, lock })
    }

    /// Looks a page up. The answer's frame stays what it is while `g` lives, and no longer.
    pub fn peek(&self, m: &I::Machine, g: &WalkGuard<'_>, page: Hvn) -> Peek {
        self.seen(m, g, page)
    }

    /// The same, part of whoever calls it.
    #[inline(always)]
    pub(crate) fn seen(&self, m: &I::Machine, g: &WalkGuard<'_>, page: Hvn) -> Peek {
        self.whole(m, g, page, told(page, self.table.walk(m, g, page.0)))
    }

    /// The same for pages one after the other.
    pub fn pages<'g>(&'g self, m: &'g I::Machine, g: &'g WalkGuard<'g>) -> Pages<'g, I> {
        Pages { host: self, m, g, cursor: Cursor::new(&self.table, m, g) }
    }

    /// What was found of a page, with regard to the run that it is in.
    #[inline(always)]
    fn whole(&self, m: &I::Machine, g: &WalkGuard<'_>, page: Hvn, found: Peek) -> Peek {
        match found {
            Peek::Page(now) if now.order < self.granule() => self.in_run(m, g, page, now),
            found => found,
        }
    }

    /// The size of the runs in which pages come and go; see [`super::run`].
    #[inline(always)]
    pub fn granule(&self) -> Order {
        self.regions.granule()
    }

    /// The table's root, for whoever inspects it.
    pub fn root(&self) -> TableRef {
        self.table.root()
    }

    /// Keeps structural changes of this table apart.
    pub fn lock<'a>(&'a self, cpu: &'a Cpu) -> RankedGuard<'a, ()> {
        self.lock.lock(cpu)
    }

    /// What it is made of.
    pub fn regions(&self) -> &Regions<I> {
        &self.regions
    }

    /// What is there.
    pub fn stats(&self) -> HostStats {
        self.counts.stats()
    }

    /// Frames that hold the table.
    pub fn table_frames(&self) -> u64 {
        self.table.frames()
    }

    /// Frees everything that is the VM's own. No CPU uses the space any more, and no translation of its frames is left
    /// anywhere.
    pub fn destroy(self, cpu: &Cpu, m: &I::Machine) {
        let regions = self.regions;
        let grace = m.epoch().synchronize(cpu);
        self.table.destroy(cpu, m, |key, order, entry| match (entry, regions.find(Hvn(key)).map(|r| r.backing())) {
            (Pte::Leaf(leaf), Some(Backing::Anon)) => {
                m.frames().free_guest(cpu, grace.retire(GuestFrame::owned(leaf.pfn, order)));
            }
            // Frames of somebody else.
            (Pte::Leaf(_), Some(Backing::Shared { .. } | Backing::Fixed { .. })) => {}
            (Pte::Swapped(place), Some(Backing::Anon)) => regions.forget(cpu, m, Token::owned(place)),
            _ => debug_assert!(false, "an entry that no region can have"),
        });
    }
}

/// Looks at pages one after the other; see [`HostSpace::peek`].
#[derive(Debug)]
pub struct Pages<'g, I: Isa> {
    host: &'g HostSpace<I>,
    m: &'g I::Machine,
    g: &'g WalkGuard<'g>,
    cursor: Cursor<'g, HostFormat, I::Machine>,
}

impl<I: Isa> Pages<'_, I> {
    /// Looks a page up.
    #[inline(always)]
    pub fn peek(&mut self, page: Hvn) -> Peek {
        self.host.whole(self.m, self.g, page, told(page, self.cursor.look(page.0)))
    }
}

/// What a walk for `page` found.
#[inline(always)]
fn told(page: Hvn, seen: Option<Seen<'_>>) -> Peek {
    let Some(seen) = seen else { return Peek::OutOfReach };
    match seen.pte {
        Pte::Hole => Peek::Absent,
        Pte::Leaf(leaf) => Peek::Page(page_of(page, seen.order, leaf)),
        Pte::Swapped(_) => Peek::Swapped,
        Pte::Table { .. } | Pte::Transition(_) => Peek::Retry,
    }
}

/// The frame of `page` in a leaf of `order` that covers it.
pub(super) fn page_of(page: Hvn, order: Order, leaf: Leaf) -> HostPage {
    let inside = page.0 - order.align_down(page.0);
    HostPage { pfn: Pfn(leaf.pfn.0 | inside), order, prot: leaf.prot }
}
