//! A page of guest memory that the hypervisor touches again and again, found without a walk: a gfn-to-pfn cache.
//!
//! It is a secondary like stage 2 (R23): derived from slots and host table, and gone before either changes. Users take no
//! lock: they read one word inside a walk guard and touch the frame before the guard ends.
//!
//! ```text
//!   invalidator                                   refresh                              user
//!   early count += 1                              cache's lock                         walk guard
//!     each cache of the range: lock, word = 0       sample (R5), commit section          word: valid?
//!   mmu lock, bracket, grace, zap, flush            slot, host leaf                       touch the frame
//!     [begin has returned: R8]                      early count 0?  then                walk guard ends
//!   the host side changes                           no bracket, sequence as sampled?
//!   mmu lock, sequence += 1, bracket closed         word = frame
//!   early count -= 1                              unlock
//! ```
//!
//! **Why the early count** (exhibit I1). Caches are emptied before the mmu lock is taken, so that the one grace period of
//! `begin` is also waited for by who found a cache valid; only then has nothing touched the frames when `begin` returns
//! (R8). But then a refresh may come between the emptying and the bracket, where neither open count nor sequence shows
//! anything yet, and fill the cache with the frame that is about to go. So the early count rises first: a refresh that
//! takes the cache's lock after the invalidator sees it, and what one did before the invalidator empties.
//!
//! **Count before sequence**, as in [`crate::notifier`]: the early count falls after the sequence has risen, with release,
//! and is read with acquire before the sequence is. A refresh that finds it 0 because an invalidation is over meets the
//! raised sequence; one that began after it read the new state. (Once `begin` has returned the open bracket refuses the
//! same refreshes: from there on the early count is the second of two defences.)
//!
//! A cache is in its Space's list before it may be valid and until it is dropped, and its lock is made once, with it (I3,
//! G9). It holds a handle on the Space, so it cannot outlive what empties it (I6, R20). It owns no reference to a frame
//! (I5): what keeps the frame is the user's walk guard.
//!
//! Locks: the list's, then a cache's; leaves, under any ranked lock and outside of walk guards. A refresh that meets an
//! invalidation anywhere in the VM does not wait for it: the access goes the long way.

use alloc::vec::Vec;

use super::GuestMemory;
use super::space::Space;
use crate::addr::{Gfn, Gpa, Hvn, HvnRange, PAGE_SIZE, Pfn};
use crate::epoch::{Cpu, WalkGuard};
use crate::heap::Counted;
use crate::isa::Isa;
use crate::machine::Machine;
use crate::radix::format::Prot;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering};

/// All caches of one VM.
#[derive(Debug)]
pub struct Caches {
    /// Invalidations that have begun and not ended.
    early: AtomicU32,
    list: Mutex<Vec<Counted<Entry>>>,
}

/// The caches of a range are empty, and none of the VM is refreshed, while this lives.
#[derive(Debug)]
#[must_use = "caches may be filled again when this is dropped"]
pub(super) struct Emptied<'a>(&'a Caches);

/// What a user and an invalidator share.
#[derive(Debug)]
struct Entry {
    /// The host page that the word was derived from. Who holds it may change the word.
    page: Mutex<Option<Hvn>>,
    /// 0, or the frame's number above the permissions' bits.
    word: AtomicU64,
}

/// The frame of one guest page, as long as it is known. What it cannot serve goes the long way, through the memory.
#[derive(Debug)]
pub struct GfnCache<I: Isa> {
    space: Counted<Space<I>>,
    gfn: Gfn,
    entry: Counted<Entry>,
}

/// A word has what is allowed below the frame's number.
const SHIFT: u32 = 3;

fn bits(prot: Prot) -> u64 {
    u64::from(prot.bits())
}

impl Caches {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { early: AtomicU32::new(0), list: Mutex::new(Vec::new()) }
    }

    /// Empties the caches of `range`. Comes before the mmu lock is taken; the result is dropped after the sequence rose.
    pub(super) fn empty(&self, range: &HvnRange) -> Emptied<'_> {
        self.early.fetch_add(1, Ordering::Relaxed);
        for entry in self.list.lock().iter() {
            let mut page = entry.page.lock();
            if page.is_some_and(|page| range.contains(page)) {
                *page = None;
                // Before the fence of the grace period that follows: who does not see it is waited for.
                entry.word.store(0, Ordering::Relaxed);
            }
        }
        Emptied(self)
    }
}

impl Drop for Emptied<'_> {
    fn drop(&mut self) {
        self.0.early.fetch_sub(1, Ordering::Release);
    }
}

impl<I: Isa> GfnCache<I> {
    /// A cache of the page `gfn`, empty; `None` if there is no memory for it.
    #[must_use]
    pub fn new(memory: &GuestMemory<I>, gfn: Gfn) -> Option<Self> {
        let space = Counted::clone(memory.space());
        let entry = Counted::new(Entry { page: Mutex::new(None), word: AtomicU64::new(0) }).ok()?;
        {
            let mut list = space.caches.list.lock();
            list.try_reserve(1).ok()?;
            list.push(Counted::clone(&entry));
        }
        Some(Self { space, gfn, entry })
    }

    /// The page.
    #[must_use]
    pub fn gfn(&self) -> Gfn {
        self.gfn
    }

    /// True if the frame is known. The answer may be out of date at once.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.entry.word.load(Ordering::Relaxed) != 0
    }

    /// Reads the page, if it can be done without a walk. False, nothing having been read, if the access must go the long
    /// way. The caller holds no guard.
    #[must_use]
    pub fn try_read(&self, memory: &GuestMemory<I>, cpu: &Cpu, m: &I::Machine, at: Gpa, into: &mut [u8]) -> bool {
        self.serves(memory, at, into.len()) && self.with(cpu, m, Prot::READ, |frame| m.read(frame, at.offset(), into))
    }

    /// Writes the page, likewise.
    #[must_use]
    pub fn try_write(&self, memory: &GuestMemory<I>, cpu: &Cpu, m: &I::Machine, at: Gpa, from: &[u8]) -> bool {
        self.serves(memory, at, from.len()) && self.with(cpu, m, Prot::WRITE, |frame| m.write(frame, at.offset(), from))
    }

    /// Does the access lie in the page, and is it one to this VM?
    fn serves(&self, memory: &GuestMemory<I>, at: Gpa, len: usize) -> bool {
        at.page() == self.gfn
            && len <= PAGE_SIZE.saturating_sub(at.offset())
            && Counted::ptr_eq(&self.space, memory.space())
    }

    /// Calls `touch` with the frame, inside a walk guard, if it is known or can be learnt at once and allows `need`. False,
    /// not having called, if the access must go the long way. The caller holds no guard.
    pub fn with(&self, cpu: &Cpu, m: &I::Machine, need: Prot, mut touch: impl FnMut(Pfn)) -> bool {
        let need = bits(need);
        let mut known = || {
            let walk = m.epoch().enter(cpu);
            // Acquire: who filled it has seen the page's zeros.
            let word = self.entry.word.load(Ordering::Acquire);
            let fits = word != 0 && word & need == need;
            if fits {
                touch(Pfn(word >> SHIFT));
                if need & bits(Prot::WRITE) != 0 && self.space.dirty.active().is_some() {
                    self.wrote(m, &walk);
                }
            }
            fits
        };
        known() || (self.refresh(cpu, m).is_some() && known())
    }

    /// Tells the dirty log of a store (R16, exhibit E5). The slot is the one that the word was derived from: no window changes
    /// before the walks are over in which it was found valid.
    #[cold]
    fn wrote(&self, m: &I::Machine, walk: &WalkGuard<'_>) {
        let slot = self.space.slots.find(walk, self.gfn);
        if let Some(page) = slot.and_then(|slot| slot.hvn(self.gfn)) {
            self.space.wrote(m, walk, page);
        }
    }

    /// Learns the frame. `None` if it is not there, or if something is being invalidated.
    fn refresh(&self, cpu: &Cpu, m: &I::Machine) -> Option<()> {
        let Space { slots, host, mmu, caches, .. } = &*self.space;
        let mut page = self.entry.page.lock();
        let seq = mmu.sample();
        let section = mmu.enter(cpu, m.epoch());
        let slot = slots.find(section.walk(), self.gfn)?;
        let hvn = slot.hvn(self.gfn)?;
        if caches.early.load(Ordering::Acquire) != 0 {
            return None;
        }
        let fresh = section.revalidate(seq, HvnRange::new(hvn, 1)?).ok()?;
        let (frame, prot) = fresh.primary(m, host, hvn).ok()?.frame();
        *page = Some(hvn);
        self.entry.word.store(frame.0 << SHIFT | bits(slot.prot().intersection(prot)), Ordering::Release);
        Some(())
    }
}

impl<I: Isa> Drop for GfnCache<I> {
    fn drop(&mut self) {
        self.space.caches.list.lock().retain(|entry| !Counted::ptr_eq(entry, &self.entry));
    }
}
