//! Taking pages away by whole leaf tables: what [`super::discard()`] does first, and nearly all of it for a large range.
//!
//! ```text
//!   discard (host lock, bracket open)               others
//!   each leaf table all of whose pages go:
//!     CAS table -> hole, in the table above         a first touch: finds no table there, makes a new one; a page that comes
//!   grace                                             after this is new, and stays
//!                                                   a swap-in: finds no such entry any more when it comes to its end
//!                                                   a software writer inside the table: its store is over (R2, G1)
//!                                                   a first touch inside the table: its leaf is in the old table
//!   the tables are read: runs of frames, one          its fault: open bracket -> Retry; resolved again, it finds a hole
//!     trip to the allocator a run; kept pages         a write of the hypervisor's: looks the page up again before it
//!     are forgotten                                     stores, in a guard of its own, and finds a hole
//!   the tables are freed
//! ```
//!
//! So a page that a first touch brought too late is never shown to anybody: it goes back with the table (R24), and whoever
//! brought it comes again. What is in a leaf table belongs to the VM alone if all of the table's pages are in one
//! anonymous region, which is the caller's range; pages of objects are nobody's to free here.
//!
//! Rules: R2, R6, R20, R24; museum: X20.

use heapless::Vec;

use super::HostFormat;
use super::space::HostSpace;
use crate::addr::{Hvn, HvnRange, Order};
use crate::epoch::{Cpu, Grace};
use crate::isa::Isa;
use crate::machine::Machine;
use crate::mmu::zap::Bracket;
use crate::page::{GuestRun, Token};
use crate::radix::edit::Removed;
use crate::radix::format::{Leaf, Pte, TableRef, Transition};
use crate::radix::{Held, Radix};
use crate::sync::Ordering;

/// How many tables one step takes before it waits for a grace period: 64 MiB.
const TABLES_AT_ONCE: usize = 32;

/// Tables that were unlinked with all that they hold.
#[derive(Debug, Default)]
#[must_use = "tables and what they hold are freed by HostSpace::free_whole"]
struct Whole(Vec<TableRef, TABLES_AT_ONCE>);

impl Removed for Whole {
    fn room(&self) -> bool {
        !self.0.is_full()
    }

    fn leaf(&mut self, _key: u64, _order: Order, _leaf: Leaf) {
        debug_assert!(false, "leaves go with their tables");
    }

    fn table(&mut self, table: TableRef) {
        let pushed = self.0.push(table);
        debug_assert!(pushed.is_ok(), "room() was not asked");
    }
}

impl<I: Isa> HostSpace<I> {
    /// Takes away all pages of `range`, a part of one anonymous region, whose leaf tables lie in it whole. The caller holds
    /// the host lock and no guard.
    pub(super) fn detach_all(&self, cpu: &Cpu, m: &I::Machine, bracket: &Bracket, range: HvnRange) {
        debug_assert!(bracket.range().covers(&range), "R6: pages are taken away that the bracket does not cover");
        let mut from = range.start();
        while from < range.end() {
            let mut whole = Whole::default();
            from = Hvn(self.table.detach(m, &m.epoch().enter(cpu), from.0, range.end().0, &mut whole));
            if !whole.0.is_empty() {
                self.free_whole(cpu, m, whole);
            }
        }
    }

    /// Waits for a grace period, and frees tables and what is in them by then.
    fn free_whole(&self, cpu: &Cpu, m: &I::Machine, whole: Whole) {
        let grace = m.epoch().synchronize(cpu);
        for table in whole.0 {
            let table = grace.retire(table);
            // A guard for each look: the store is not called inside one.
            let look = |slot| Radix::<HostFormat>::held(m, &m.epoch().enter(cpu), &table, slot);
            let mut slot = 0;
            while let Some(held) = look(slot) {
                slot = held.next;
                self.free_held(cpu, m, &grace, held);
            }
            m.free_table(cpu, table);
        }
    }

    /// Frees what entries of such a table held.
    fn free_held(&self, cpu: &Cpu, m: &I::Machine, grace: &Grace, held: Held) {
        match held.pte {
            Pte::Leaf(leaf) => {
                self.counts.sub(Order::PAGE, held.pages);
                m.frames().free_run(cpu, grace.retire(GuestRun::owned(leaf.pfn, held.pages)));
            }
            Pte::Swapped(place) => {
                self.counts.swapped.fetch_sub(1, Ordering::Relaxed);
                self.regions.forget(cpu, m, Token::owned(place));
            }
            // Its CPU finds no such entry any more, and gives up frame and token itself.
            Pte::Transition(Transition::Arriving(_)) | Pte::Hole => {}
            Pte::Table { .. } | Pte::Transition(_) => {
                debug_assert!(false, "R20: an entry was still in transition after the grace period");
            }
        }
    }
}
