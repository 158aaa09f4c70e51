//! An entry in memory, and its lock.
//!
//! **An entry's lock** is a bit of v, since real mode reaches nothing else that is small enough. Its holder alone
//! changes v, r (but for hardware's R and C) and the view. It is held over nothing that waits for software: the
//! invalidation of a translation is hardware's work ([`Processor::flush_entries`]), heads' locks are held for a few
//! stores. So whoever finds it taken may wait for it, also in a walk; in real mode he waits a while and defers (R21).
//!
//! **States**: free (neither VALID nor ABSENT), absent, valid; valid entries are in the reverse map, and those that are
//! being invalidated still are. Order of stores: r before v, so that hardware never finds a valid v with another's r.

use hv_core::sync::{AtomicU64, Ordering, SMALL, spin_loop};

#[cfg(doc)]
use super::Processor;
use super::claim::{Claim, Words};
use super::table::Gone;
use super::words::{ABSENT, C, LOCK, Layout, R, VALID, guest_view};

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
    pub fn look(&self) -> Words {
        let first = u64::from_be(self.first.load(Ordering::Acquire));
        let (v, r) = self.layout.join(first, u64::from_be(self.second.load(Ordering::Acquire)));
        Words { v: v & !LOCK, r, view: self.view.load(Ordering::Relaxed) }
    }

    /// Locks it, if nobody has.
    pub fn try_lock(self) -> Option<Locked<'g>> {
        let first = self.first.load(Ordering::Relaxed);
        if u64::from_be(first) & LOCK != 0 {
            return None;
        }
        let locked = first | LOCK.to_be();
        self.first.compare_exchange(first, locked, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        Some(Locked { entry: self, words: self.look() })
    }

    /// Waits until it is not locked.
    pub fn wait(self) {
        while u64::from_be(self.first.load(Ordering::Relaxed)) & LOCK != 0 {
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
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// What is to be flushed when it is not valid any more.
    pub fn gone(&self) -> Gone {
        let Words { v, r, .. } = self.words;
        Gone { index: self.entry.index, v, r, gfn: self.words.gfn(), order: self.words.order() }
    }

    /// Its links, for rmap.rs.
    pub(super) fn links(&self) -> &'g AtomicU64 {
        self.entry.links
    }

    /// Where the fault's claim still holds, nothing but R and C has changed.
    pub fn is_as_claimed(&self, claim: &Claim) -> bool {
        self.words.claim(claim.index()) == *claim
    }

    /// Changes v, keeping the lock.
    fn set_v(&mut self, v: u64) {
        self.words.v = v & !LOCK;
        let (first, _) = self.entry.layout.split(v | LOCK, 0);
        self.entry.first.store(first.to_be(), Ordering::Release);
    }

    /// The guest's entry is put: absent, with nothing noted of it yet. The entry was free.
    pub fn put(&mut self, v: u64, view: u64) {
        self.set_view(guest_view(view));
        self.set_r(v, 0);
        self.set_v(v & !VALID | ABSENT);
    }

    /// Hardware may use it, by this r. Its r is not, while this is called, changed by hardware.
    pub fn make_valid(&mut self, r: u64) {
        self.set_r(self.words.v, r);
        self.set_v(self.words.v & !ABSENT | VALID);
    }

    /// Hardware may not use it from now on. What has cached it is to be flushed, and may until then set R and C.
    pub fn make_absent(&mut self) {
        self.set_v(self.words.v & !VALID | ABSENT);
    }

    /// The entry is free. Nothing has it cached.
    pub fn make_free(&mut self) {
        self.set_view(0);
        self.entry.links.store(0, Ordering::Relaxed);
        self.set_r(0, 0);
        self.set_v(0);
    }

    /// R and C as they are in memory now; final if no CPU has the entry cached.
    pub fn harvest(&mut self) -> u64 {
        self.words.r = self.entry.look().r;
        self.words.r & (R | C)
    }

    /// Clears marks of hardware's r, which may be in use; returns those that were set.
    pub fn clear(&mut self, marks: u64) -> u64 {
        let old = u64::from_be(self.entry.second.fetch_and(!marks.to_be(), Ordering::AcqRel));
        self.words.r = self.entry.look().r;
        old & marks
    }

    /// Changes what the guest is told of r.
    pub fn set_view(&mut self, view: u64) {
        self.words.view = view;
        self.entry.view.store(view, Ordering::Relaxed);
    }

    fn set_r(&mut self, v: u64, r: u64) {
        self.words.r = r;
        let (_, second) = self.entry.layout.split(v, r);
        self.entry.second.store(second.to_be(), Ordering::Release);
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let (first, _) = self.entry.layout.split(self.words.v, 0);
        self.entry.first.store(first.to_be(), Ordering::Release);
    }
}
