//! Putting and freeing entries: what the guest's calls do to the table, without what they are told.
//!
//! ```text
//!   put    a free entry, locked -> the guest's words, absent -> unlocked
//!          or, of a page that the host side has: -> reverse map -> the guest's words, valid -> unlocked
//!   free   locked -> VALID off -> flush -> R and C read (R14) -> out of the reverse map (R9) -> free, unlocked
//! ```

use heapless::Vec;
use hv_core::epoch::WalkGuard;
use hv_core::machine::Machine;
use hv_core::mmu::lock::Prepared;
use hv_core::radix::format::{Leaf, Rc};

use super::claim::Claim;
use super::entry::{Locked, Patience};
use super::rmap::Stale;
use super::stage2::HashStage2;
use super::table::{GROUP, Gone, Parts, Processor};
use super::words::{PageSize, R, first_gfn, real};

/// Where an entry may be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There.
    Exactly(u64),
    /// In the group of this entry.
    InGroupOf(u64),
}

/// Why it was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// No entry is free.
    Full,
    /// One was locked for longer than it may be waited for. Nothing has been changed.
    Busy,
}

/// What an entry was, to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// First doubleword.
    pub v: u64,
    /// Second, with R and C.
    pub r: u64,
}

/// Entries that are freed at once, at most.
pub const MOST: usize = 4;

impl HashStage2 {
    /// Puts an entry, absent. The words have been checked.
    pub fn put<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        patience: Patience,
        room: Room,
        (v, r): (u64, u64),
    ) -> Result<Claim, NoRoom> {
        let (index, mut entry) = self.free_entry(m, g, patience, room)?;
        entry.put(v, r);
        Ok(entry.words().claim(index))
    }

    /// Puts an entry, valid: what it comes to if it is put absent and a fault that claims it is answered with that mapping.
    /// Returns its number; `None` if no entry there is free at a look.
    #[inline(always)]
    pub fn put_valid<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        parts: &Parts,
        room: Room,
        (v, r): (u64, u64),
        ready: &Prepared<'_>,
    ) -> Option<u64> {
        let x = ready.mapping();
        debug_assert!(
            PageSize::of(v, r).is_some_and(|size| size.actual == x.order()),
            "R4: {x:?} is not what {r:#x} asks"
        );
        debug_assert!(first_gfn(r, x.order()) == x.gfn(), "R4: {x:?} is not where {r:#x} says");
        let (first, count) = match room {
            Room::Exactly(index) => (index, 1),
            Room::InGroupOf(index) => (index - index % GROUP, GROUP),
        };
        let (index, entry) = self.free_among(m, g, parts, first, count)?;
        let mut chain = self.chain_of(m, g, parts, x.gfn());
        chain.link(&entry, index, x.prot());
        let leaf = Leaf { pfn: x.pfn(), prot: x.prot(), rc: Rc::empty() };
        // Before the chain is let go: who comes from there asks the entry what it translates.
        entry.put_valid(v, r, real(r, &leaf, x.order()));
        Some(index)
    }

    /// Locks the first of these entries that is free at a look.
    #[inline(always)]
    fn free_among<'g, M: Machine>(
        &self,
        m: &'g M,
        g: &'g WalkGuard<'_>,
        parts: &Parts,
        first: u64,
        count: u64,
    ) -> Option<(u64, Locked<'g>)> {
        for index in first..first + count {
            if let Some(locked) = parts.entry(m, g, index).try_lock_free()
                && self.tables().is(parts)
            {
                return Some((index, locked));
            }
        }
        None
    }

    fn free_entry<'g, M: Machine>(
        &self,
        m: &'g M,
        g: &'g WalkGuard<'_>,
        patience: Patience,
        room: Room,
    ) -> Result<(u64, Locked<'g>), NoRoom> {
        match room {
            Room::Exactly(index) => {
                let entry = self.lock(m, g, index, patience).ok_or(NoRoom::Busy)?;
                if entry.words().is_free() { Ok((index, entry)) } else { Err(NoRoom::Full) }
            }
            Room::InGroupOf(index) => self.in_group(m, g, patience, index),
        }
    }

    /// A free entry of the group: one that can be had at once, or else one that is free when its lock is, for a lock
    /// may be held by somebody who is about to free the entry (exhibit D5).
    fn in_group<'g, M: Machine>(
        &self,
        m: &'g M,
        g: &'g WalkGuard<'_>,
        patience: Patience,
        index: u64,
    ) -> Result<(u64, Locked<'g>), NoRoom> {
        let group = index - index % GROUP;
        if let Some(free) = self.free_among(m, g, &self.parts(), group, GROUP) {
            return Ok(free);
        }
        for index in group..group + GROUP {
            let locked = self.lock(m, g, index, patience).ok_or(NoRoom::Busy)?;
            if locked.words().is_free() {
                return Ok((index, locked));
            }
        }
        Err(NoRoom::Full)
    }

    /// Frees an entry, which is in use.
    pub fn free<M: Processor>(&self, m: &M, g: &WalkGuard<'_>, entry: Locked<'_>) -> Removed {
        self.free_of(m, g, &self.parts(), entry)
    }

    /// The same of a table that is known to be the guest's, since the entry is locked. Part of whoever calls it.
    #[inline(always)]
    pub(super) fn free_of<M: Processor>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        parts: &Parts,
        mut entry: Locked<'_>,
    ) -> Removed {
        let v = entry.words().shown();
        if end_use(&mut entry) == Cached::Perhaps {
            m.flush_entries(self.tag(), &[entry.gone()]);
        }
        Removed { v, r: self.unused(m, g, parts, entry) }
    }

    /// Frees up to [`MOST`] entries, which are in use, with one flush.
    pub fn free_some<M: Processor>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        mut held: [Option<Locked<'_>>; MOST],
    ) -> [Option<Removed>; MOST] {
        let mut removed = [None; MOST];
        let mut gone: Vec<Gone, MOST> = Vec::new();
        for (entry, removed) in held.iter_mut().zip(&mut removed) {
            let Some(entry) = entry else { continue };
            *removed = Some(Removed { v: entry.words().shown(), r: 0 });
            if end_use(entry) == Cached::Perhaps {
                // There is room for all of them.
                let _ = gone.push(entry.gone());
            }
        }
        if !gone.is_empty() {
            m.flush_entries(self.tag(), &gone);
        }
        for (entry, removed) in held.into_iter().zip(&mut removed) {
            if let (Some(entry), Some(removed)) = (entry, removed) {
                removed.r = self.unused(m, g, &self.parts(), entry);
            }
        }
        removed
    }

    /// Frees an entry that is absent and has been flushed. Returns its r, with R and C.
    #[inline(always)]
    fn unused<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, parts: &Parts, mut entry: Locked<'_>) -> u64 {
        let marks = entry.harvest();
        if entry.is_linked() {
            // Only now: until here a zap of the page has to find the record, and wait (R9). The walk that this is done in
            // would hold up whoever frees the page as well.
            let mut chain = self.chain_of(m, g, parts, entry.words().gfn());
            if marks & R != 0 {
                chain.set_used();
            }
            chain.unlink(&entry, Stale::No);
        }
        let told = entry.words().view | marks;
        entry.make_free();
        told
    }
}

/// Whether an entry has to be flushed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cached {
    Perhaps,
    No,
}

/// Makes an entry absent that is to be freed.
#[inline]
fn end_use(entry: &mut Locked<'_>) -> Cached {
    // An absent one may be cached still, on behalf of a zap that has not flushed yet.
    let cached = entry.words().is_valid() || entry.is_stale();
    if entry.words().is_valid() {
        entry.make_absent();
    }
    if cached { Cached::Perhaps } else { Cached::No }
}
