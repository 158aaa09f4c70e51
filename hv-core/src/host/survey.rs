//! What the pages of a range are: for the operator's picture of a VM's memory.

use super::region::Backing;
use super::space::HostSpace;
use super::{HUGE, HostFormat};
use crate::addr::{Hvn, HvnRange, Order};
use crate::epoch::Cpu;
use crate::isa::Isa;
use crate::machine::Machine;
use crate::radix::format::Pte;
use crate::radix::walk::Cursor;

/// Pages of a range by what they are. What is in none of `small`, `huge`, `team` and `swapped` nobody has touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// In leaves of less than 2 MiB.
    pub small: u64,
    /// In larger ones, of the VM's own memory.
    pub huge: u64,
    /// The same, of an object that VMs share.
    pub team: u64,
    /// In the swap store.
    pub swapped: u64,
    /// Written since the dirty log was last harvested.
    pub dirty: u64,
}

impl Survey {
    /// Pages that are there.
    #[must_use]
    pub const fn resident(&self) -> u64 {
        self.small.saturating_add(self.huge).saturating_add(self.team)
    }

    /// Adds another range's.
    pub fn add(&mut self, other: &Self) {
        self.small = self.small.saturating_add(other.small);
        self.huge = self.huge.saturating_add(other.huge);
        self.team = self.team.saturating_add(other.team);
        self.swapped = self.swapped.saturating_add(other.swapped);
        self.dirty = self.dirty.saturating_add(other.dirty);
    }
}

impl<I: Isa> HostSpace<I> {
    /// What the pages of `range` are at about this moment. Takes no lock.
    pub fn survey(&self, cpu: &Cpu, m: &I::Machine, range: HvnRange) -> Survey {
        let mut found = Survey::default();
        let mut at = range.start();
        while at < range.end() {
            // A guard a block: nobody who waits for a grace period waits for the whole range.
            let g = m.epoch().enter(cpu);
            let mut cursor = Cursor::<HostFormat, _>::new(&self.table, m, &g);
            let stop = at.align_down(HUGE).checked_add(HUGE.pages()).map_or(range.end(), |next| next.min(range.end()));
            while at < stop {
                let Some(seen) = cursor.look(at.0) else { return found };
                let after = at.align_down(seen.order).checked_add(seen.order.pages());
                let after = after.map_or(range.end(), |after| after.min(range.end()));
                let pages = after.since(at).unwrap_or(0);
                match seen.pte {
                    Pte::Leaf(_) => *self.kind(&mut found, at, seen.order) += pages,
                    Pte::Swapped(_) => found.swapped = found.swapped.saturating_add(pages),
                    Pte::Hole | Pte::Table { .. } | Pte::Transition(_) => {}
                }
                at = after;
            }
        }
        found
    }

    fn kind<'s>(&self, found: &'s mut Survey, at: Hvn, order: Order) -> &'s mut u64 {
        match self.regions.find(at).map(|region| region.backing()) {
            _ if order < HUGE => &mut found.small,
            Some(Backing::Shared { .. }) => &mut found.team,
            Some(Backing::Anon | Backing::Fixed { .. }) | None => &mut found.huge,
        }
    }
}
