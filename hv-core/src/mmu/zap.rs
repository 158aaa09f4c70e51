//! The host side's half: an invalidation from its first to its last step.
//!
//! ```text
//!   early count up, gfn-to-pfn caches of the range emptied (R23, cache.rs)
//!   lock -> range widened, count up (R7) -> grace: sections that saw no bracket are over (R6)
//!        -> zap every window onto the range -> flush (R9) -> unlock                                     = begin
//!   the host table changes; inside the bracket no fault can publish a page of the range
//!   lock -> seq up, count down (R7) -> unlock                                                           = end
//!   early count down
//!   tables that the zap unlinked: grace, then free
//! ```

use heapless::Vec;

use super::dirty::DirtyLog;
use super::flush::{FlushBatch, Flushed, Scope};
use super::space::Space;
use crate::addr::{Gfn, GfnRange, HvnRange, Order};
use crate::epoch::Cpu;
use crate::isa::{Isa, Stage2, Unmapped};
use crate::machine::Machine;
use crate::memslot::{MAX_SLOTS, Slot, SlotError, check};
use crate::sync::Ordering;

/// An open bracket after its flush: no translation of the range exists anywhere, nor can one be made, while this lives.
/// Only [`invalidate`] makes one, and lends it to the change it brackets.
#[derive(Debug)]
pub struct Bracket {
    range: HvnRange,
}

impl Bracket {
    /// The host pages it covers.
    #[must_use]
    pub fn range(&self) -> &HvnRange {
        &self.range
    }
}

/// Carries out `change` on the host pages of `range` with every derived translation gone. Balanced by construction (G8).
/// The caller holds no guard and not the mmu lock.
pub fn invalidate<I: Isa, R>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    range: HvnRange,
    change: impl FnOnce(&Bracket) -> R,
) -> R {
    let emptied = space.caches.empty(&range);
    let flushed = {
        let mut guard = space.mmu.lock(cpu);
        guard.begin(m, &range);
        clear(cpu, m, space, &windows(cpu, m, space, &range), space.change_log())
    };
    let result = change(&Bracket { range });
    space.mmu.lock(cpu).end();
    drop(emptied);
    flushed.release(cpu, m);
    result
}

/// Replaces the windows onto the host space (R17). On return no translation through a window that is not in the new set
/// is left, and no fault that went by the old set will make one. The caller holds no guard and no ranked lock.
///
/// ```text
///   memslot lock -> mmu lock, bracket over all that old and new windows show, grace
///                   -> old windows zapped, flush -> unlock
///   set replaced, grace: no walk reads the old one; who copied a slot of it sampled before the sequence goes up
///   mmu lock -> bracket closed, unlock
/// ```
///
/// While the bracket is open nothing is mapped through any of these windows, so who invalidates meanwhile may go by
/// either set. Zapped only when the set has been replaced, a page could be taken away by who knows the new windows, and
/// freed, while it is still mapped through an old one (exhibit F5b).
pub fn rewindow<I: Isa>(cpu: &Cpu, m: &I::Machine, space: &Space<I>, new: &[Slot]) -> Result<(), SlotError> {
    check(new)?;
    if !new.iter().all(|slot| slot.is_aligned(space.host.granule())) {
        return Err(SlotError::Granule);
    }
    let writer = space.slots.lock(cpu);
    let old = writer.all(m.epoch());
    let gone = old.iter().filter(|slot| !new.contains(slot));
    let added = new.iter().filter(|slot| !old.contains(slot));
    let shown = gone.clone().chain(added).filter_map(|slot| slot.hvns_of(&slot.gfns()));
    let Some(range) = shown.reduce(|all, range| all.hull(&range)) else { return Ok(()) };
    let emptied = space.caches.empty(&range);
    let windows: Windows = gone.map(|slot| (*slot, slot.gfns())).collect();
    let flushed = {
        let mut guard = space.mmu.lock(cpu);
        guard.begin(m, &range);
        clear(cpu, m, space, &windows, space.change_log())
    };
    let done = writer.replace(m.epoch(), new);
    space.mmu.lock(cpu).end();
    drop(emptied);
    flushed.release(cpu, m);
    done
}

/// Has `work` weaken what is derived of `range` while the host side stays as it is, and flushes: in a bracket, so that nothing
/// stronger is published before the flush, and what was derived from the stronger state is not published after it (R15).
/// Returns the windows too. The caller holds no guard and not the mmu lock.
pub(super) fn weaken<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    range: &HvnRange,
    work: &mut Work<'_>,
) -> (Windows, Flushed) {
    let mut guard = space.mmu.lock(cpu);
    guard.begin(m, range);
    let windows = windows(cpu, m, space, range);
    let mut batch = FlushBatch::new(space.tag);
    work(&windows, &mut batch);
    let flushed = finish(m, space, batch);
    guard.end();
    (windows, flushed)
}

/// What [`weaken`] has done, given the windows.
type Work<'a> = dyn FnMut(&[(Slot, GfnRange)], &mut FlushBatch) + 'a;

/// Removes every translation of `range`, for the next faults to make other ones. What hardware noted in them is forgotten.
/// The caller holds no guard and not the mmu lock.
pub(super) fn rebuild<I: Isa>(cpu: &Cpu, m: &I::Machine, space: &Space<I>, range: &HvnRange) {
    let mut guard = space.mmu.lock(cpu);
    guard.begin(m, range);
    let flushed = clear(cpu, m, space, &windows(cpu, m, space, range), None);
    guard.end();
    drop(guard);
    flushed.release(cpu, m);
}

/// Slots, and what they show of some range.
type Windows = Vec<(Slot, GfnRange), MAX_SLOTS>;

/// Where the guest sees pages of `range`. Read after a bracket over it opened: a window added later meets the bracket.
fn windows<I: Isa>(cpu: &Cpu, m: &I::Machine, space: &Space<I>, range: &HvnRange) -> Windows {
    let slots = space.slots.all(&m.epoch().enter(cpu));
    slots.into_iter().filter_map(|slot| Some((slot, slot.gfns_of(range)?))).collect()
}

/// Flushes what a batch names, under the mmu lock.
fn finish<I: Isa>(m: &I::Machine, space: &Space<I>, batch: FlushBatch) -> Flushed {
    if batch.scope() != Scope::Nothing {
        space.flushes.fetch_add(1, Ordering::Relaxed);
    }
    m.flush(batch)
}

/// Removes every translation of `windows`, and every table that held nothing else, and flushes. The caller holds the mmu
/// lock and has a bracket open over all that the windows show.
///
/// What hardware noted in the leaves goes to `log` before the flush; a harvest, which would report it, waits for the mmu
/// lock, and so for the flush (R14).
pub(super) fn clear<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    windows: &[(Slot, GfnRange)],
    log: Option<&DirtyLog>,
) -> Flushed {
    loop {
        let mut batch = FlushBatch::new(space.tag);
        let mut end = Unmapped::All;
        for (slot, gfns) in windows {
            let mut mark = log.map(|log| {
                move |gfn, order| {
                    if let Some(pages) = slot.hvn(gfn).and_then(|page| HvnRange::block(page, order)) {
                        log.mark(m, &m.epoch().enter(cpu), &pages);
                    }
                }
            });
            let changed = mark.as_mut().map(|mark| mark as &mut dyn FnMut(Gfn, Order));
            if space.stage2.unmap(cpu, m, *gfns, &mut batch, changed) == Unmapped::TablesLeft {
                end = Unmapped::TablesLeft;
            }
        }
        let flushed = finish(m, space, batch);
        if end == Unmapped::All {
            return flushed;
        }
        flushed.release(cpu, m);
    }
}
