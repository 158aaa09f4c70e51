//! Small leaves that become one large leaf: where they are, or copied together.
//!
//! ```text
//!   collapse                                       others
//!   look, with no lock: is it worth it? a block to copy to, if one is needed
//!   host lock
//!     invalidate(block)                            no translation of the block is left; the next fault maps it large
//!       freeze the table                           a walk: Frozen, retry. A first touch: its CAS finds no hole
//!       what the entries held decides
//!       (a) they amount to one large leaf already:
//!             put it in the table's place          a software writer goes on: its frame stays what it is
//!       (b) enough of them are there:
//!             grace                                a software writer that found an old frame is over; a new one
//!                                                    meets Frozen, and waits
//!             copy, zero the holes                 nobody writes the old frames, nobody has seen the new ones
//!             put the new leaf in the table's place
//!       neither: thaw
//!       grace                                      a walk may still be in the table, a reader in an old frame
//!       the table is freed, and with (b) the old frames
//!     end of the bracket                           a fault that resolved an old frame: open bracket, or sequence (R6)
//! ```
//!
//! (a) needs no bracket for the frames' sake; it has one so that stage 2's small leaves go, or the block would never be
//! mapped large. (b) without the bracket is exhibits A1 and A11b, without the first grace it loses what is written during
//! the copy, without the second it is C6. A failure at any step leaves what was.
//! Rules: R2, R3, R4, R6, R10, R20.

use super::format::REFUSED;
use super::region::{Backing, NotHuge};
use super::space::HostSpace;
use super::{HUGE, HostFormat, shared};
use crate::addr::{Hvn, HvnRange, Order, Pfn};
use crate::epoch::Cpu;
use crate::isa::Isa;
use crate::machine::Machine;
use crate::mmu::space::Space;
use crate::mmu::zap::{Bracket, invalidate};
use crate::page::{Content, Frame, GuestFrame};
use crate::radix::format::{Leaf, Prot, Pte, Rc};
use crate::radix::{FrozenTable, NotFrozen};

/// Pages of a block that must be there for it to be copied together: half. With fewer the block would take more memory
/// in new zeros than it had in data, and the copy would be mostly of nothing.
pub const ENOUGH: u64 = HUGE.pages() / 2;

/// How a block came to be mapped with one leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collapsed {
    /// Its frames were in place.
    InPlace,
    /// Its pages were copied to a new block.
    Copied,
}

/// Why a block was not collapsed; it is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCollapsed {
    /// It is not to be mapped with one leaf.
    NotHuge(NotHuge),
    /// Fewer than [`ENOUGH`] pages are there, or, for what is never copied, not all of them in place.
    Sparse,
    /// The machine has no block to copy to.
    NoBlock,
    /// No heap to keep the table's words in meanwhile.
    NoMemory,
    /// The table changed meanwhile.
    Busy,
}

impl From<NotHuge> for NotCollapsed {
    fn from(why: NotHuge) -> Self {
        Self::NotHuge(why)
    }
}

/// Collapses the block of `order` around `page`. The caller holds no lock and no guard.
pub(crate) fn collapse<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    page: Hvn,
    order: Order,
) -> Result<Collapsed, NotCollapsed> {
    let region = space.host.regions().find(page).ok_or(NotHuge::Region)?;
    let block = region.block(page, order)?;
    match region.backing() {
        Backing::Anon => collapse_anon(cpu, m, space, block, order),
        Backing::Shared { object, first } if order == HUGE => {
            shared::collapse(cpu, m, space, region, (object, *first), page)
        }
        // Objects have no teams of teams.
        Backing::Shared { .. } => Err(NotCollapsed::Sparse),
        Backing::Fixed { .. } => Err(NotHuge::Reserved.into()),
    }
}

fn collapse_anon<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    block: HvnRange,
    order: Order,
) -> Result<Collapsed, NotCollapsed> {
    let host = &space.host;
    let mut spare = match host.judge(cpu, m, block.start(), order)? {
        Collapsed::InPlace => None,
        Collapsed::Copied => Some(m.frames().alloc(cpu, order).ok_or(NotCollapsed::NoBlock)?),
    };
    let done = {
        let _structure = host.lock(cpu);
        invalidate(cpu, m, space, block, |bracket| host.replace(cpu, m, bracket, order, &mut spare))
    };
    if let Some(frame) = spare {
        m.frames().free(cpu, frame);
    }
    done
}

/// The leaf of `large` that entries of a table of `small` leaves amount to, if they do: all there, in order, aligned, of
/// equal rights.
pub(super) fn amount_to(entries: impl Iterator<Item = Pte>, small: Order, large: Order) -> Option<Leaf> {
    let mut sum: Option<Leaf> = None;
    for (n, entry) in entries.enumerate() {
        let Pte::Leaf(leaf) = entry else { return None };
        match &mut sum {
            None if leaf.pfn.is_aligned(large) => sum = Some(leaf),
            Some(all) if leaf.pfn.0 == all.pfn.0 | (n as u64) << small.get() && leaf.prot == all.prot => {
                all.rc |= leaf.rc;
            }
            None | Some(_) => return None,
        }
    }
    sum
}

impl<I: Isa> HostSpace<I> {
    /// What a collapse of the block would have to do, as far as a look without any lock can tell.
    fn judge(&self, cpu: &Cpu, m: &I::Machine, start: Hvn, order: Order) -> Result<Collapsed, NotCollapsed> {
        let guard = m.epoch().enter(cpu);
        let (mut there, mut at, mut first) = (0_u64, 0_u64, None);
        let (mut in_place, mut swapped) = (true, false);
        let surveyed = self.table.survey(m, &guard, start.0, order, |entry, small| {
            if let Pte::Leaf(leaf) = entry {
                there = there.saturating_add(1);
                let head = *first.get_or_insert(leaf.pfn);
                in_place &= leaf.pfn.0 == head.0 | at << small.get();
            } else {
                in_place = false;
                swapped |= matches!(entry, Pte::Swapped(_));
            }
            at = at.saturating_add(1);
        });
        if !surveyed {
            let leaf = self.table.entry(m, &guard, start.0).is_some_and(|seen| matches!(seen.pte, Pte::Leaf(_)));
            return Err(if leaf { NotHuge::AlreadyHuge.into() } else { NotCollapsed::Sparse });
        }
        if swapped {
            // What was not worth a frame is not worth a block.
            return Err(NotHuge::Swapped.into());
        }
        if in_place && first.is_some_and(|pfn: Pfn| pfn.is_aligned(order)) {
            Ok(Collapsed::InPlace)
        // To copy a part of a run would be to break it.
        } else if order == HUGE && order >= self.granule() && there >= ENOUGH {
            Ok(Collapsed::Copied)
        } else {
            Err(NotCollapsed::Sparse)
        }
    }

    /// Replaces the table of the bracket's block by one leaf, with what is in `spare` if the pages must be copied. The
    /// caller holds the host lock.
    fn replace(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        bracket: &Bracket,
        order: Order,
        spare: &mut Option<Frame>,
    ) -> Result<Collapsed, NotCollapsed> {
        let frozen = self.freeze(cpu, m, bracket.range().start(), order)?;
        if let Some(leaf) = amount_to(frozen.entries(), frozen.small(), order) {
            return self.put(cpu, m, frozen, leaf).map(|_| Collapsed::InPlace);
        }
        let there = frozen.entries().filter(|entry| matches!(entry, Pte::Leaf(_))).count() as u64;
        let frame = if there >= ENOUGH { spare.take() } else { None };
        let Some(frame) = frame else {
            self.thaw(cpu, m, frozen);
            return Err(NotCollapsed::Busy);
        };
        // Who found an old frame before it was frozen may still be writing to it.
        let grace = m.epoch().synchronize(cpu);
        let mut entries = frozen.entries();
        let block = frame.fill(m, |_| match entries.next() {
            Some(Pte::Leaf(leaf)) => Content::CopyOf(leaf.pfn),
            Some(Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_)) | None => Content::Zeros,
        });
        drop(entries);
        let (small, leaf) = (frozen.small(), Leaf { pfn: block.pfn(), prot: Prot::all(), rc: Rc::empty() });
        match self.put(cpu, m, frozen, leaf) {
            Ok(old) => {
                // The table's entry owns the block now.
                let _ = block.into_pfn();
                let grace = m.epoch().synchronize(cpu);
                for entry in old.entries() {
                    if let Pte::Leaf(leaf) = entry {
                        m.frames().free_guest(cpu, grace.retire(GuestFrame::owned(leaf.pfn, small)));
                    }
                }
                Ok(Collapsed::Copied)
            }
            Err(error) => {
                m.frames().free_guest(cpu, grace.retire(block));
                Err(error)
            }
        }
    }

    /// Freezes the table where a leaf of `order` at `start` would stand.
    pub(super) fn freeze(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        start: Hvn,
        order: Order,
    ) -> Result<FrozenTable<HostFormat>, NotCollapsed> {
        self.table.freeze(m, &m.epoch().enter(cpu), start.0, order).map_err(|why| match why {
            NotFrozen::NoTable | NotFrozen::InUse => NotCollapsed::Busy,
            NotFrozen::NoMemory => NotCollapsed::NoMemory,
        })
    }

    /// Puts back what a frozen table held.
    pub(super) fn thaw(&self, cpu: &Cpu, m: &I::Machine, frozen: FrozenTable<HostFormat>) {
        self.table.thaw(m, &m.epoch().enter(cpu), frozen);
    }

    /// Puts `leaf` in the place of a frozen table, which is freed after a grace period, and returns what it held. If that
    /// cannot be, the table is as it was.
    pub(super) fn put(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        frozen: FrozenTable<HostFormat>,
        leaf: Leaf,
    ) -> Result<FrozenTable<HostFormat>, NotCollapsed> {
        // That the store would not take one page says nothing of the others.
        let leaf = Leaf { rc: leaf.rc.difference(REFUSED), ..leaf };
        let guard = m.epoch().enter(cpu);
        let Some(table) = self.table.put_leaf(m, &guard, &frozen, leaf) else {
            self.table.thaw(m, &guard, frozen);
            return Err(NotCollapsed::Busy);
        };
        drop(guard);
        let leaves = frozen.entries().filter(|entry| matches!(entry, Pte::Leaf(_))).count() as u64;
        self.counts.collapse(frozen.small(), leaves, frozen.order());
        let grace = m.epoch().synchronize(cpu);
        m.free_table(cpu, grace.retire(table));
        Ok(frozen)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::amount_to;
    use crate::addr::{Order, Pfn};
    use crate::host::HUGE;
    use crate::radix::format::{Leaf, Prot, Pte, Rc};

    fn entries(first: u64) -> Vec<Pte> {
        let leaf = |n| Pte::Leaf(Leaf { pfn: Pfn(first + n), prot: Prot::all(), rc: Rc::empty() });
        (0..HUGE.pages()).map(leaf).collect()
    }

    fn sum(entries: Vec<Pte>) -> Option<Pfn> {
        amount_to(entries.into_iter(), Order::PAGE, HUGE).map(|leaf| leaf.pfn)
    }

    #[test]
    fn g3_only_a_whole_aligned_even_block_amounts_to_a_leaf() {
        assert_eq!(sum(entries(512)), Some(Pfn(512)));
        assert_eq!(sum(entries(513)), None, "frames off the alignment");
        for spoil in [0, 1, 300, 511] {
            let mut hole = entries(512);
            hole[spoil] = Pte::Hole;
            assert_eq!(sum(hole), None, "a hole");
            let mut other = entries(512);
            other[spoil] = Pte::Leaf(Leaf { pfn: Pfn(5000), prot: Prot::all(), rc: Rc::empty() });
            assert_eq!(sum(other), None, "a frame of somewhere else");
            let mut weak = entries(512);
            weak[spoil] = Pte::Leaf(Leaf { pfn: Pfn(512 + spoil as u64), prot: Prot::READ, rc: Rc::empty() });
            assert_eq!(sum(weak), None, "uneven rights");
        }
    }

    #[test]
    fn r14_what_was_recorded_of_any_page_is_recorded_of_the_block() {
        let mut all = entries(512);
        all[7] = Pte::Leaf(Leaf { pfn: Pfn(519), prot: Prot::all(), rc: Rc::CHANGED });
        assert_eq!(amount_to(all.into_iter(), Order::PAGE, HUGE).unwrap().rc, Rc::CHANGED);
    }
}
