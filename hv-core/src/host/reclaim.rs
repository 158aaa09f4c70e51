//! Which pages go when memory is short: those that were not used since a hand last came by.
//!
//! ```text
//!   the hand goes over a VM's anonymous blocks, in a circle
//!     a block of which nothing is there: no lock, no bracket
//!     age: which of its pages were used since the last time        mmu lock, bracket, flush (mmu/age.rs)
//!     the others go, AT_ONCE at a time                              swap.rs
//!   until enough is free, at the end of a block
//! ```
//!
//! **Why it ends, and with what.** The first circle may find every page used. What the guest does not touch again until the
//! hand is back goes in the second. A guest that touches all of its memory all the time is asked for pages in the third
//! without regard to that. If none goes then the store has no room for any, and nothing can be freed here.
//!
//! A page that does not pack is not packed again before it has been used: a VM full of such pages costs one try each, and
//! then a look.
//!
//! To find that a page does not pack takes as long as to pack it. So a call gives up after [`MOST_REFUSED`] of them, and the
//! next one goes on behind them: who asks decides whether it is worth it (`hypervisor/relief.rs`).
//!
//! A block's cold pages go together, though that is more than was asked for: taken from many blocks they would break as
//! many large leaves. The page that a fault has just brought lies behind the hand: it goes last.

use core::ops::ControlFlow;

use heapless::Vec;

use super::HUGE;
use super::format::REFUSED;
use super::region::Backing;
use super::space::HostSpace;
use super::swap::{AT_ONCE, Gone, swap_out};
use crate::addr::{Hvn, HvnRange, Order};
use crate::epoch::Cpu;
use crate::isa::Isa;
use crate::machine::Machine;
use crate::mmu::age;
use crate::mmu::space::Space;
use crate::page::Store;
use crate::page::team::Bits;
use crate::radix::format::{Leaf, Pte, Rc};
use crate::sync::Ordering;

/// How often the hand may come to the end of the VM's memory: it begins anywhere, goes round three times, and is nowhere
/// short of where it began.
const ENDS: u32 = 4;

/// So many pages that the store does not take are enough for one call.
pub(crate) const MOST_REFUSED: u64 = 2048;

/// What a reclaim came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Frames that went back. The store has taken some of them for what it keeps.
    pub freed: u64,
    /// Blocks that were looked at.
    pub looked: u64,
    /// Pages that the store would not take.
    pub refused: u64,
}

impl Reclaimed {
    /// Adds what another one came to.
    pub(crate) fn add(&mut self, other: &Self) {
        self.freed = self.freed.saturating_add(other.freed);
        self.looked = self.looked.saturating_add(other.looked);
        self.refused = self.refused.saturating_add(other.refused);
    }
}

/// Which pages of a block may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// Those that were not used.
    Unused,
    /// All.
    Any,
}

/// Frees `want` frames of this VM's anonymous memory, or as many as can be. If it ends short of that having met pages that
/// the store does not take, others may lie ahead. The caller holds no guard and no ranked lock
/// but the reclaimer's.
pub(crate) fn reclaim<I: Isa>(cpu: &Cpu, m: &I::Machine, space: &Space<I>, want: u64) -> Reclaimed {
    let (host, mut done, mut ends) = (&space.host, Reclaimed::default(), 0_u32);
    let Some(store) = host.regions.store() else { return done };
    while done.freed < want && ends < ENDS && done.refused < MOST_REFUSED {
        let Some(block) = host.block_from(Hvn(host.hand.load(Ordering::Relaxed))) else {
            host.hand.store(0, Ordering::Relaxed);
            ends = ends.saturating_add(1);
            continue;
        };
        host.hand.store(block.end().0, Ordering::Relaxed);
        done.looked = done.looked.saturating_add(1);
        let choice = if ends.saturating_add(1) < ENDS { Choice::Unused } else { Choice::Any };
        let gone = sweep(cpu, m, space, store, block, choice);
        done.freed = done.freed.saturating_add(gone.freed);
        done.refused = done.refused.saturating_add(gone.refused);
    }
    done
}

/// Gives those pages of a block that may go to the store.
fn sweep<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    store: &dyn Store<I::Machine>,
    block: HvnRange,
    choice: Choice,
) -> Gone {
    let (host, mut gone) = (&space.host, Gone::default());
    if !host.any(cpu, m, block) {
        return gone;
    }
    let mut used = Bits::default();
    let run = host.granule();
    age(cpu, m, space, block, &mut |page, order| note(&mut used, &block, run, page, order));
    host.counts.aged.fetch_add(1, Ordering::Relaxed);
    host.counts.used.fetch_add(used.count(), Ordering::Relaxed);
    host.forgive(cpu, m, block, used);
    let stay = match choice {
        Choice::Unused => used,
        Choice::Any => Bits::default(),
    };
    let mut from = 0;
    loop {
        let victims = host.victims(cpu, m, block, from, &stay);
        let Some(last) = victims.last().and_then(|last| last.since(block.start())) else { return gone };
        from = last.saturating_add(run.pages());
        let some = swap_out(cpu, m, space, store, &victims);
        gone.freed = gone.freed.saturating_add(some.freed);
        gone.refused = gone.refused.saturating_add(some.refused);
    }
}

/// Notes that the pages of a leaf were used, as far as they lie in the block: one bit for each run.
fn note(used: &mut Bits, block: &HvnRange, run: Order, page: Hvn, order: Order) {
    let part = HvnRange::new(page, order.pages()).and_then(|leaf| leaf.intersect(block));
    if let Some(part) = part
        && let Some(from) = part.start().since(block.start())
    {
        let end = from.saturating_add(part.pages()).div_ceil(run.pages());
        (from >> run.get()..end).for_each(|n| used.set(n));
    }
}

impl<I: Isa> HostSpace<I> {
    /// The first block, or part of one, of an anonymous region that ends after `from`.
    fn block_from(&self, from: Hvn) -> Option<HvnRange> {
        self.regions.iter().filter(|region| matches!(region.backing(), Backing::Anon)).find_map(|region| {
            let hvns = region.hvns();
            let at = Some(hvns.start().max(from)).filter(|at| hvns.contains(*at))?;
            HvnRange::block(at, HUGE.max(self.granule()))?.intersect(&hvns)
        })
    }

    /// True if any page of the block is there.
    fn any(&self, cpu: &Cpu, m: &I::Machine, block: HvnRange) -> bool {
        let mut any = false;
        self.table.visit(m, &m.epoch().enter(cpu), block.start().0, block.end().0, |_, _, _| {
            any = true;
            ControlFlow::Break(())
        });
        any
    }

    /// Offers used pages to the store again that it would not take: what they hold may be something else by now.
    fn forgive(&self, cpu: &Cpu, m: &I::Machine, block: HvnRange, used: Bits) {
        let guard = m.epoch().enter(cpu);
        self.table.visit(m, &guard, block.start().0, block.end().0, |key, _, leaf| {
            if leaf.rc.contains(REFUSED) && self.place(&block, key).is_some_and(|n| used.has(n)) {
                // If it has changed there is nothing to forgive.
                self.change(cpu, m, Hvn(key), Pte::Leaf(leaf), Pte::Leaf(Leaf { rc: Rc::empty(), ..leaf }));
            }
            ControlFlow::Continue(())
        });
    }

    /// The number of a page's bit.
    fn place(&self, block: &HvnRange, page: u64) -> Option<u64> {
        Some(Hvn(page).since(block.start())? >> self.granule().get())
    }

    /// Pages of the block, from the one at place `from` on, that are there and not in `stay`, nor refused since they were
    /// used: as many as go at once. Of a run its first page.
    fn victims(&self, cpu: &Cpu, m: &I::Machine, block: HvnRange, from: u64, stay: &Bits) -> Vec<Hvn, AT_ONCE> {
        let mut found = Vec::new();
        let Some(first) = block.start().checked_add(from) else { return found };
        let (guard, end) = (m.epoch().enter(cpu), block.end().0);
        self.table.visit(m, &guard, first.0, end, |key, order, leaf| {
            if leaf.rc.contains(REFUSED) {
                return ControlFlow::Continue(());
            }
            for page in key.max(first.0)..key.saturating_add(order.pages()).min(end) {
                let stays = self.place(&block, page).is_none_or(|n| stay.has(n));
                if Hvn(page).is_aligned(self.granule()) && !stays && found.push(Hvn(page)).is_err() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        found
    }
}
