//! The invalidation sequence: how a fault learns that what it read of the host side may be out of date.
//!
//! ```text
//!   host side                                        fault
//!   begin(range): range widened, open += 1           seq = sample()                        (R5)
//!                 grace period                        read memslots, host table
//!                 zap, flush (R8, R9)                 enter a commit section
//!   the host side changes                             stale(seq)? drop everything : publish (R6)
//!   end(range):   seq += 1, then open -= 1            leave the section
//! ```
//!
//! `begin` and `end` run under the mmu lock; a fault runs under none. It tests inside a *commit section*, which is a walk
//! guard, or, where it needs exclusion, under the mmu lock; the test is the same.
//!
//! **A section and a bracket B never miss each other.** Entering a guard and waiting for a grace period both pass a full
//! fence, and fences have one order. If the section's came first, B's `begin` waits until the section is over, and the zap
//! meets what it published. Else everything that B's `begin` stored is visible to the section's test, and what the test
//! reads is what B stored or something later:
//!
//! - the count is not 0 and the range overlaps: stale;
//! - the count is 0: B has ended, as have all others. B's `end` lowered the count with release after raising the sequence,
//!   later changes of the count are read-modify-writes that carry that release on, and the count is read with acquire: the
//!   raised sequence is seen. Hence count before sequence: read in the other order, a whole `end` fits between the two
//!   reads and neither test fires (exhibit B1);
//! - the count is not 0 and the range does not overlap: next paragraph.
//!
//! **The range may be read torn.** It is two words, and no lock protects the reader. While any bracket is open `from` only
//! falls and `to` only rises, so each word that B stored, or that a later `begin` widened, still leaves B inside: any mix
//! of them overlaps. Only a `begin` that finds the count at 0 sets the words anew. By then B has ended; the words are stored
//! with release and read with acquire, so a reader that met one of them sees B's raised sequence.
//!
//! Rules: R5, R6, R7. Ranges are of the host space, so one bracket covers every memslot that shows those pages.

use crate::addr::HvnRange;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Sequence, open count and range of one VM. On a cache line of its own: every fault reads it, only invalidators write it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Notifier {
    seq: AtomicU64,
    open: AtomicU32,
    /// First page of the hull of all brackets since the count was last 0.
    from: AtomicU64,
    /// The first page after it.
    to: AtomicU64,
}

/// The right to open and close brackets: lives in the mmu lock.
#[derive(Debug, Default)]
pub struct Brackets(());

/// The sequence as it was before anything of the host side was read. Not `Copy`: one sample, one attempt.
#[derive(Debug)]
pub struct InvalidateSeq(u64);

impl Notifier {
    /// No bracket open.
    #[must_use]
    pub fn new() -> Self {
        Self { seq: AtomicU64::new(0), open: AtomicU32::new(0), from: AtomicU64::new(0), to: AtomicU64::new(0) }
    }

    /// Samples the sequence. Comes before the first read of memslots or of the host table (R5).
    #[inline]
    #[must_use]
    pub fn sample(&self) -> InvalidateSeq {
        // Acquire pairs with `end`: who reads its sequence reads its change of the host side too.
        InvalidateSeq(self.seq.load(Ordering::Acquire))
    }

    /// Opens a bracket. The caller awaits a grace period next, then zaps and flushes, all under the mmu lock.
    pub(crate) fn begin(&self, _held: &mut Brackets, range: &HvnRange) {
        let (mut from, mut to) = (range.start().0, range.end().0);
        if self.open.load(Ordering::Relaxed) != 0 {
            from = from.min(self.from.load(Ordering::Relaxed));
            to = to.max(self.to.load(Ordering::Relaxed));
        }
        self.from.store(from, Ordering::Release);
        self.to.store(to, Ordering::Release);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Closes a bracket, under the mmu lock.
    pub(crate) fn end(&self, _held: &mut Brackets) {
        self.seq.fetch_add(1, Ordering::Release);
        let before = self.open.fetch_sub(1, Ordering::Release);
        debug_assert!(before != 0, "G8: a bracket was closed that nobody opened");
    }

    /// Inside a commit section or under the mmu lock: must an attempt about `pages`, begun at `seq`, be given up?
    #[inline]
    pub(crate) fn stale(&self, seq: &InvalidateSeq, pages: &HvnRange) -> bool {
        self.covers_any(pages) || self.seq.load(Ordering::Relaxed) != seq.0
    }

    /// Inside a commit section or under the mmu lock: does an open bracket, or the hull of several, touch `pages`?
    #[inline]
    pub(crate) fn covers_any(&self, pages: &HvnRange) -> bool {
        if self.open.load(Ordering::Acquire) == 0 {
            return false;
        }
        let (from, to) = (self.from.load(Ordering::Acquire), self.to.load(Ordering::Acquire));
        from < pages.end().0 && pages.start().0 < to
    }
}

impl Default for Notifier {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Brackets, Notifier};
    use crate::addr::{Hvn, HvnRange};

    fn range(start: u64, pages: u64) -> HvnRange {
        HvnRange::new(Hvn(start), pages).unwrap()
    }

    fn stale_at(n: &Notifier, page: u64) -> bool {
        n.stale(&n.sample(), &range(page, 1))
    }

    #[test]
    fn r6_an_open_bracket_stops_what_touches_it_only() {
        let (n, mut b) = (Notifier::new(), Brackets::default());
        n.begin(&mut b, &range(8, 8));
        assert!(stale_at(&n, 8) && stale_at(&n, 15));
        assert!(!stale_at(&n, 7) && !stale_at(&n, 16));
        assert!(n.stale(&n.sample(), &range(0, 9)) && n.stale(&n.sample(), &range(15, 9)));
        assert!(!n.stale(&n.sample(), &range(0, 8)));
    }

    #[test]
    fn r6_a_closed_bracket_stops_every_older_sample() {
        let (n, mut b) = (Notifier::new(), Brackets::default());
        let seq = n.sample();
        n.begin(&mut b, &range(8, 8));
        assert!(!n.stale(&seq, &range(100, 1)), "nothing has changed there yet");
        n.end(&mut b);
        assert!(n.stale(&seq, &range(100, 1)));
        assert!(!stale_at(&n, 8));
    }

    #[test]
    fn r7_the_range_is_the_hull_until_the_last_bracket_closes() {
        let (n, mut b) = (Notifier::new(), Brackets::default());
        n.begin(&mut b, &range(10, 1));
        n.begin(&mut b, &range(0, 1));
        n.end(&mut b);
        assert!(stale_at(&n, 0) && stale_at(&n, 10));
        n.end(&mut b);
        assert!(!stale_at(&n, 0) && !stale_at(&n, 10));
        n.begin(&mut b, &range(20, 1));
        assert!(stale_at(&n, 20) && !stale_at(&n, 10), "a range that nobody needs any more was kept");
    }
}
