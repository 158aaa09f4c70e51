//! Putting and freeing entries: what the guest's calls do to the table, without what they are told.
//!
//! ```text
//!   put    a free entry, locked -> the guest's words, absent -> unlocked
//!   free   locked -> VALID off -> flush -> R and C read (R14) -> out of the reverse map (R9) -> free, unlocked
//! ```

use hv_core::epoch::WalkGuard;
use hv_core::machine::Machine;

use super::claim::Claim;
use super::entry::{Locked, Patience};
use super::rmap::Stale;
use super::stage2::HashStage2;
use super::table::{GROUP, Gone, Processor};
use super::words::R;

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
        let (index, mut entry) = match room {
            Room::Exactly(index) => {
                let entry = self.lock(m, g, index, patience).ok_or(NoRoom::Busy)?;
                Some((index, entry)).filter(|(_, entry)| entry.words().is_free()).ok_or(NoRoom::Full)?
            }
            Room::InGroupOf(index) => self.in_group(m, g, patience, index)?,
        };
        entry.put(v, r);
        Ok(entry.words().claim(index))
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
        for index in group..group + GROUP {
            if self.parts().entry(m, g, index).look().is_free()
                && let Some(locked) = self.try_lock(m, g, index).filter(|locked| locked.words().is_free())
            {
                return Ok((index, locked));
            }
        }
        for index in group..group + GROUP {
            let locked = self.lock(m, g, index, patience).ok_or(NoRoom::Busy)?;
            if locked.words().is_free() {
                return Ok((index, locked));
            }
        }
        Err(NoRoom::Full)
    }

    /// Frees up to [`MOST`] entries, which are in use, with one flush.
    pub fn free<M: Processor, const N: usize>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        mut held: [Option<Locked<'_>>; N],
    ) -> [Option<Removed>; N] {
        const { assert!(N <= MOST) };
        let shown: [u64; N] = core::array::from_fn(|n| held[n].as_ref().map_or(0, |entry| entry.words().shown()));
        let mut gone: [Option<Gone>; N] = [None; N];
        for (entry, gone) in held.iter_mut().zip(&mut gone) {
            let Some(entry) = entry else { continue };
            // An absent one may be cached still, on behalf of a zap that has not flushed yet.
            let cached = entry.words().is_valid() || entry.is_stale();
            if entry.words().is_valid() {
                entry.make_absent();
            }
            *gone = cached.then(|| entry.gone());
        }
        self.flush(m, &gone);
        let mut removed = [None; N];
        for ((entry, removed), v) in held.into_iter().zip(&mut removed).zip(shown) {
            let Some(mut entry) = entry else { continue };
            let marks = entry.harvest();
            if entry.is_linked() {
                // Only now: until here a zap of the page has to find the record, and wait (R9). The walk that this is done in
                // would hold up whoever frees the page as well.
                let mut chain = self.chain(m, g, entry.words().gfn());
                if marks & R != 0 {
                    chain.set_used();
                }
                chain.unlink(&entry, Stale::No);
            }
            *removed = Some(Removed { v, r: entry.words().told() });
            entry.make_free();
        }
        removed
    }

    fn flush<M: Processor>(&self, m: &M, gone: &[Option<Gone>]) {
        let mut all = gone.iter().copied().flatten();
        let Some(first) = all.next() else { return };
        let (mut list, mut len) = ([first; MOST], 1);
        for (place, entry) in list.iter_mut().skip(1).zip(all) {
            *place = entry;
            len += 1;
        }
        m.flush_entries(self.tag(), &list[..len]);
    }
}
