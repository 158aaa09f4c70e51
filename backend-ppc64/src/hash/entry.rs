//! An entry in memory, and its lock.
//!
//! **An entry's lock** is a bit of v, since real mode reaches nothing else that is small enough. Its holder alone
//! changes v, r (but for hardware's R and C) and the view. It is held over nothing that waits for software: the
//! invalidation of a translation is hardware's work ([`Processor::flush_entries`]), heads' locks are held for a few
//! stores. So whoever finds it taken may wait for it, also in a walk; in real mode he waits a while and defers (R21).
//!
//! **States**: free (neither VALID nor ABSENT), absent, valid; valid entries are in the reverse map, and those that are
//! being invalidated still are. Order of stores: r before v, so that hardware never finds a valid v with another's r. All words
//! of a free entry are zeros.

use hv_core::sync::{AtomicU64, Ordering, SMALL, spin_loop};

#[cfg(doc)]
use super::Processor;
use super::claim::{Claim, Words};
use super::table::Gone;
use super::words::{ABSENT, C, LOCK, Layout, R, VALID, big_endian, guest_view};

/// Tries for a lock where nothing may be waited for.
pub const TRIES: u32 = if SMALL { 2 } else { 200 };

/// An entry's words in memory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'g> {
    pub(super) first: &'g AtomicU64,
    pub(super) second: &'g AtomicU64,
    pub(super) view: &'g AtomicU64,
    pub(super) links: &'g AtomicU64,
    pub(super) layout: Layout,
    pub(super) index: u64,
}

impl<'g> Entry<'g> {
    /// What it says, without its lock: only for a look, whose finding is tested under the lock.
    #[inline]
    pub fn look(&self) -> Words {
        let first = big_endian(self.first.load(Ordering::Acquire));
        let (v, r) = self.layout.join(first, big_endian(self.second.load(Ordering::Acquire)));
        Words { v: v & !LOCK, r, view: self.view.load(Ordering::Relaxed) }
    }

    /// Locks it, if nobody has and nobody uses it: then it is all zeros.
    #[inline]
    pub fn try_lock_free(self) -> Option<Locked<'g>> {
        if self.first.load(Ordering::Relaxed) != 0 {
            return None;
        }
        self.first.compare_exchange(0, LOCK.to_be(), Ordering::AcqRel, Ordering::Relaxed).ok()?;
        Some(Locked { entry: self, words: Words::FREE })
    }

    /// Locks it, if nobody has.
    #[inline]
    pub fn try_lock(self) -> Option<Locked<'g>> {
        let first = self.first.load(Ordering::Relaxed);
        if first & LOCK.to_be() != 0 {
            return None;
        }
        let locked = first | LOCK.to_be();
        self.first.compare_exchange(first, locked, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        let (v, r) = self.layout.join(big_endian(first), big_endian(self.second.load(Ordering::Acquire)));
        Some(Locked { entry: self, words: Words { v, r, view: self.view.load(Ordering::Relaxed) } })
    }

    /// Waits until it is not locked.
    pub fn wait(self) {
        while self.first.load(Ordering::Relaxed) & LOCK.to_be() != 0 {
            spin_loop();
        }
    }

    /// Locks it, trying again while `patience` lasts.
    pub fn lock(self, patience: Patience) -> Option<Locked<'g>> {
        let mut tries = 0_u32;
        loop {
            if let Some(locked) = self.try_lock() {
                return Some(locked);
            }
            tries = tries.saturating_add(1);
            if patience == Patience::Some && tries >= TRIES {
                return None;
            }
            spin_loop();
        }
    }
}

/// How long a lock is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// [`TRIES`].
    Some,
    /// Until it is free.
    Endless,
}

/// An entry that the holder alone may change. Dropped, it is unlocked, in the state that it is in.
#[derive(Debug)]
pub struct Locked<'g> {
    entry: Entry<'g>,
    words: Words,
}

impl<'g> Locked<'g> {
    /// What it says; R and C as they were when it was locked or last written.
    #[inline]
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// What is to be flushed when it is not valid any more.
    #[inline(always)]
    pub fn gone(&self) -> Gone {
        let Words { v, r, .. } = self.words;
        Gone { index: self.entry.index, v, r, gfn: self.words.gfn(), order: self.words.order() }
    }

    /// Its links, for rmap.rs.
    #[inline]
    pub(super) fn links(&self) -> &'g AtomicU64 {
        self.entry.links
    }

    /// Where the fault's claim still holds, nothing but R and C has changed.
    pub fn is_as_claimed(&self, claim: &Claim) -> bool {
        self.words.claim(claim.index()) == *claim
    }

    /// Changes bits of v that stand there in either layout, keeping the lock. In place: its bytes are not turned round.
    #[inline]
    fn set_bits(&mut self, clear: u64, set: u64) {
        self.words.v = self.words.v & !clear | set;
        let first = self.entry.first.load(Ordering::Relaxed) & !clear.to_be() | set.to_be();
        self.entry.first.store(first, Ordering::Release);
    }

    /// Changes v, keeping the lock.
    #[inline]
    fn set_v(&mut self, v: u64) {
        self.words.v = v & !LOCK;
        let (first, _) = self.entry.layout.split(v | LOCK, 0);
        self.entry.first.store(big_endian(first), Ordering::Release);
    }

    /// The guest's entry is put: absent, with nothing noted of it yet. The entry was free.
    #[inline]
    pub fn put(&mut self, v: u64, view: u64) {
        self.set_view(guest_view(view));
        self.set_r(v, 0);
        self.set_v(v & !VALID | ABSENT);
    }

    /// The same, and hardware may use it, by this r.
    #[inline(always)]
    pub fn put_valid(mut self, v: u64, view: u64, r: u64) {
        self.set_view(guest_view(view));
        self.set_r(v, r);
        self.unlock_as(v & !ABSENT | VALID);
    }

    /// Hardware may use it, by this r. Its r is not, while this is called, changed by hardware.
    pub fn make_valid(&mut self, r: u64) {
        self.set_r(self.words.v, r);
        self.set_bits(ABSENT, VALID);
    }

    /// Hardware may not use it from now on. What has cached it is to be flushed, and may until then set R and C.
    #[inline]
    pub fn make_absent(&mut self) {
        self.set_bits(VALID, ABSENT);
    }

    /// The entry is free. Nothing has it cached.
    #[inline]
    pub fn make_free(mut self) {
        self.set_view(0);
        self.entry.links.store(0, Ordering::Relaxed);
        self.set_r(0, 0);
        self.unlock_as(0);
    }

    /// Changes v and unlocks, by one store.
    #[inline]
    fn unlock_as(self, v: u64) {
        let (first, _) = self.entry.layout.split(v & !LOCK, 0);
        self.entry.first.store(big_endian(first), Ordering::Release);
        core::mem::forget(self);
    }

    /// R and C as they are in memory now; final if no CPU has the entry cached.
    #[inline]
    pub fn harvest(&mut self) -> u64 {
        (_, self.words.r) = self.entry.layout.join(0, big_endian(self.entry.second.load(Ordering::Acquire)));
        self.words.r & (R | C)
    }

    /// Clears marks of hardware's r, which may be in use; returns those that were set.
    pub fn clear(&mut self, marks: u64) -> u64 {
        let old = u64::from_be(self.entry.second.fetch_and(!marks.to_be(), Ordering::AcqRel));
        self.words.r = self.entry.look().r;
        old & marks
    }

    /// Changes what the guest is told of r.
    #[inline]
    pub fn set_view(&mut self, view: u64) {
        self.words.view = view;
        self.entry.view.store(view, Ordering::Relaxed);
    }

    #[inline]
    fn set_r(&mut self, v: u64, r: u64) {
        self.words.r = r;
        let (_, second) = self.entry.layout.split(v, r);
        self.entry.second.store(big_endian(second), Ordering::Release);
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        let first = self.entry.first.load(Ordering::Relaxed) & !LOCK.to_be();
        self.entry.first.store(first, Ordering::Release);
    }
}
