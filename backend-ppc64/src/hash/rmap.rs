//! The reverse map: which entries translate a guest frame (R18).
//!
//! ```text
//!   heads[gfn mod heads]    63 LOCK   62 USED   29:0 first entry + 1        one a guest frame, if RAM is as planned
//!   links of an entry       63 LINKED 62 STALE 61 WRITE 60 EXEC   59:30 next entry + 1   29:0 previous entry + 1
//! ```
//!
//! An entry is linked under its own lock and its head's, where its first guest frame belongs, and made valid; removal
//! goes by the same words, which do not change while it is linked. Lock order: entry, then head. Who comes from a head
//! tries the entry's lock, and lets the head go if it is taken.
//!
//! - USED: somebody used the frame through an entry that has gone since ageing last asked.
//! - STALE: a zap made the entry absent, and its flush is the zap's own: until then hardware may set R and C. Who frees
//!   such an entry flushes it himself (R14).
//! - WRITE, EXEC: what the host side allows, whatever the guest has asked for.

use hv_core::addr::{Gfn, GfnRange, Order};
use hv_core::epoch::WalkGuard;
use hv_core::machine::Machine;
use hv_core::radix::format::Prot;
use hv_core::sync::{AtomicU64, Ordering, spin_loop};

use super::claim::Words;
use super::entry::{Entry, Locked};
use super::stage2::HashStage2;
use super::table::Parts;
use super::words::ORDERS;

const LOCK: u64 = 1 << 63;
const USED: u64 = 1 << 62;
const NUMBER: u64 = (1 << 30) - 1;

const LINKED: u64 = 1 << 63;
const STALE: u64 = 1 << 62;
const WRITE: u64 = 1 << 61;
const EXEC: u64 = 1 << 60;
const NEXT: u32 = 30;

/// A chain, whose holder alone links and unlinks there. Dropped, it is unlocked.
#[derive(Debug)]
pub struct Chain<'g, M> {
    parts: Parts,
    m: &'g M,
    g: &'g WalkGuard<'g>,
    head: &'g AtomicU64,
    word: u64,
}

/// Where in a chain somebody is who holds it.
#[derive(Clone, Copy, Debug)]
pub struct Entries(Option<u64>);

#[inline]
fn next(links: u64) -> Option<u64> {
    (links >> NEXT & NUMBER).checked_sub(1)
}

#[inline]
fn previous(links: u64) -> Option<u64> {
    (links & NUMBER).checked_sub(1)
}

#[inline]
fn number(index: Option<u64>) -> u64 {
    index.map_or(0, |index| index + 1) & NUMBER
}

impl Parts {
    /// The word of the head that a guest frame belongs to.
    #[inline]
    fn head<'g, M: Machine>(&self, m: &'g M, g: &'g WalkGuard<'_>, gfn: Gfn) -> &'g AtomicU64 {
        m.pte(g, self.heads, (gfn.0 & self.heads().wrapping_sub(1)) as usize)
    }

    /// True if nothing at all is noted of a guest frame. One load.
    #[inline]
    pub fn is_unused<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, gfn: Gfn) -> bool {
        self.head(m, g, gfn).load(Ordering::Acquire) == 0
    }

    /// A guest frame of each chain where entries that translate any of `r` may be, each chain once.
    pub fn chains(&self, r: &GfnRange) -> impl Iterator<Item = Gfn> + use<> {
        // The largest entries that reach into the range begin so much before it.
        let (start, heads) = (r.start(), self.heads());
        let before = ORDERS.into_iter().map(move |order| start.align_down(order)).filter(move |gfn| *gfn != start);
        // All of them, once, if the range comes round to where it began.
        let (before, pages) = (before.filter(move |_| heads > 1), r.pages().min(heads));
        before.chain((0..pages).map(move |n| Gfn(start.0.saturating_add(n))))
    }
}

impl HashStage2 {
    /// The chain of a guest frame. Its lock is never held for long.
    pub fn chain<'g, M: Machine>(&self, m: &'g M, g: &'g WalkGuard<'g>, gfn: Gfn) -> Chain<'g, M> {
        let mut chain = self.chain_of(m, g, self.tables().first(), gfn);
        // Only now: what is linked here belongs to this table (resize.rs).
        chain.parts = self.parts();
        chain
    }

    /// The same, where this is known to be the guest's table, since one of its entries is locked. Part of whoever calls it.
    #[inline(always)]
    pub(super) fn chain_of<'g, M: Machine>(
        &self,
        m: &'g M,
        g: &'g WalkGuard<'g>,
        parts: &Parts,
        gfn: Gfn,
    ) -> Chain<'g, M> {
        let head = parts.head(m, g, gfn);
        let word = try_head(head).unwrap_or_else(|| lock_head(head));
        Chain { parts: *parts, m, g, head, word }
    }
}

/// Locks a head, if nobody has; returns its word.
#[inline]
fn try_head(head: &AtomicU64) -> Option<u64> {
    let word = head.load(Ordering::Relaxed);
    let free = word & LOCK == 0;
    let locked = free && head.compare_exchange(word, word | LOCK, Ordering::Acquire, Ordering::Relaxed).is_ok();
    locked.then_some(word)
}

/// Locks a head that somebody had.
#[cold]
#[inline(never)]
fn lock_head(head: &AtomicU64) -> u64 {
    loop {
        spin_loop();
        if let Some(word) = try_head(head) {
            return word;
        }
    }
}

impl<'g, M: Machine> Chain<'g, M> {
    /// One of its entries.
    pub fn entry(&self, index: u64) -> Entry<'g> {
        self.parts.entry(self.m, self.g, index)
    }

    #[inline]
    fn links(&self, index: u64) -> &'g AtomicU64 {
        self.parts.links(self.m, self.g, index)
    }

    /// Its entries' numbers, from the first one on. The one that was given may be unlinked before the next is asked
    /// for.
    pub fn entries(&self) -> Entries {
        Entries((self.word & NUMBER).checked_sub(1))
    }

    /// The next of them.
    pub fn next(&self, at: &mut Entries) -> Option<u64> {
        let index = at.0?;
        at.0 = next(self.links(index).load(Ordering::Relaxed));
        Some(index)
    }

    /// Links an entry, which is not, with what the host side allows.
    #[inline(always)]
    pub fn link(&mut self, entry: &Locked<'_>, index: u64, allowed: Prot) {
        let first = (self.word & NUMBER).checked_sub(1);
        entry.links().store(LINKED | rights(allowed) | number(first) << NEXT, Ordering::Relaxed);
        if let Some(first) = first {
            let links = self.links(first);
            links.store(links.load(Ordering::Relaxed) & !NUMBER | number(Some(index)), Ordering::Relaxed);
        }
        self.word = self.word & !NUMBER | number(Some(index));
    }

    /// Unlinks an entry, which is linked; `stale` if it may be cached still.
    #[inline(always)]
    pub fn unlink(&mut self, entry: &Locked<'_>, stale: Stale) {
        let links = entry.links().load(Ordering::Relaxed);
        let (before, after) = (previous(links), next(links));
        match before {
            Some(before) => {
                let links = self.links(before);
                links.store(
                    links.load(Ordering::Relaxed) & !(NUMBER << NEXT) | number(after) << NEXT,
                    Ordering::Relaxed,
                );
            }
            None => self.word = self.word & !NUMBER | number(after),
        }
        if let Some(after) = after {
            let links = self.links(after);
            links.store(links.load(Ordering::Relaxed) & !NUMBER | number(before), Ordering::Relaxed);
        }
        entry.links().store(if stale == Stale::Yes { STALE } else { 0 }, Ordering::Relaxed);
    }

    /// Notes that the host side allows more to a linked entry.
    pub fn allow(&mut self, entry: &Locked<'_>, allowed: Prot) {
        let links = entry.links().load(Ordering::Relaxed);
        entry.links().store(links | rights(allowed), Ordering::Relaxed);
    }

    /// Notes that the frame was used.
    #[inline]
    pub fn set_used(&mut self) {
        self.word |= USED;
    }

    /// True if it was since the last call.
    pub fn take_used(&mut self) -> bool {
        let used = self.word & USED != 0;
        self.word &= !USED;
        used
    }
}

impl<M> Drop for Chain<'_, M> {
    #[inline]
    fn drop(&mut self) {
        self.head.store(self.word & !LOCK, Ordering::Release);
    }
}

/// Whether an entry that is no longer valid may be cached still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// It may: its flush is somebody else's.
    Yes,
    /// It has been flushed.
    No,
}

#[inline]
fn rights(allowed: Prot) -> u64 {
    let right = |which, bit| if allowed.contains(which) { bit } else { 0 };
    right(Prot::WRITE, WRITE) | right(Prot::EXEC, EXEC)
}

impl Locked<'_> {
    /// True if it is in the reverse map.
    #[inline]
    pub fn is_linked(&self) -> bool {
        self.links().load(Ordering::Relaxed) & LINKED != 0
    }

    /// True if it is absent and may be cached still.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.links().load(Ordering::Relaxed) & STALE != 0
    }

    /// Notes that it is absent and has been flushed.
    pub(super) fn set_fresh(&mut self) {
        self.links().store(0, Ordering::Relaxed);
    }

    /// What the host side allows, of an entry in the reverse map.
    pub fn allowed(&self) -> Prot {
        let links = self.links().load(Ordering::Relaxed);
        let mut prot = Prot::READ;
        prot.set(Prot::WRITE, links & WRITE != 0);
        prot.set(Prot::EXEC, links & EXEC != 0);
        prot
    }
}

/// True if a valid entry translates any of `r`.
pub fn reaches(words: &Words, r: &GfnRange) -> bool {
    let order: Order = words.order();
    GfnRange::block(words.gfn(), order).is_some_and(|block| block.intersect(r).is_some())
}
