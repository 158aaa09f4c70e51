//! The invalidation sequence: how a fault learns that what it read of the host table may be out of date.
//!
//! ```text
//!   host side                                        fault
//!   begin(range): open += 1, range widened           seq = sample()                       (R5)
//!                 zap, flush                          read memslots, host table
//!   the host table changes                            take the mmu lock
//!   end(range):   seq += 1, then open -= 1            stale(seq)? drop everything : publish (R6)
//! ```
//!
//! Both sides do their part under the mmu lock, so either the invalidator meets the new translation, or the fault meets
//! the open bracket or the raised sequence. The open count is tested before the sequence: read in the other order, a
//! whole `end` could fit between the two and neither test would fire (R6).
//!
//! Rules: R5, R6, R7. Ranges are of the host space, so one bracket covers every memslot that shows those pages.

use crate::addr::{Hvn, HvnRange};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// Sequence and open count. The range lives with the lock, in [`Brackets`].
#[derive(Debug)]
pub struct Notifier {
    seq: AtomicU64,
    open: AtomicU32,
}

/// What only the holder of the mmu lock may look at.
#[derive(Debug, Default)]
pub struct Brackets {
    /// Covers every open bracket; `None` if there is none.
    range: Option<HvnRange>,
}

/// The sequence as it was before anything of the host side was read. Not `Copy`: one sample, one attempt.
#[derive(Debug)]
pub struct InvalidateSeq(u64);

impl Notifier {
    /// No bracket open.
    #[must_use]
    pub fn new() -> Self {
        Self { seq: AtomicU64::new(0), open: AtomicU32::new(0) }
    }

    /// Samples the sequence. Comes before the first read of memslots or of the host table (R5).
    #[must_use]
    pub fn sample(&self) -> InvalidateSeq {
        InvalidateSeq(self.seq.load(Ordering::Acquire))
    }

    /// Opens a bracket. `brackets` is the proof that the mmu lock is held; the caller zaps and flushes before it lets go.
    pub(crate) fn begin(&self, brackets: &mut Brackets, range: HvnRange) {
        self.open.fetch_add(1, Ordering::Relaxed);
        brackets.range = Some(brackets.range.map_or(range, |r| r.hull(&range)));
    }

    /// Closes a bracket, under the mmu lock.
    pub(crate) fn end(&self, brackets: &mut Brackets) {
        self.seq.fetch_add(1, Ordering::Relaxed);
        // The release orders the sequence before the count for those who read them without the mmu lock.
        let before = self.open.fetch_sub(1, Ordering::Release);
        debug_assert!(before != 0, "a bracket was closed that nobody opened");
        if before <= 1 {
            brackets.range = None;
        }
    }

    /// Under the mmu lock: must an attempt about `page`, begun at `seq`, be given up?
    pub(crate) fn stale(&self, brackets: &Brackets, seq: &InvalidateSeq, page: Hvn) -> bool {
        let open = self.open.load(Ordering::Relaxed) != 0 && brackets.range.is_some_and(|r| r.contains(page));
        open || self.seq.load(Ordering::Relaxed) != seq.0
    }

    /// Without the mmu lock: is the attempt certainly, or almost certainly, in vain? Saves waiting for the lock; never
    /// replaces `Notifier::stale`. May not use the range, which is only stable under the lock.
    #[must_use]
    pub fn looks_stale(&self, seq: &InvalidateSeq) -> bool {
        if self.open.load(Ordering::Relaxed) != 0 {
            return true;
        }
        fence(Ordering::Acquire);
        self.seq.load(Ordering::Relaxed) != seq.0
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

    #[test]
    fn r6_open_bracket_stops_pages_inside_only() {
        let (n, mut b) = (Notifier::new(), Brackets::default());
        let seq = n.sample();
        n.begin(&mut b, range(8, 8));
        assert!(n.stale(&b, &seq, Hvn(8)));
        assert!(!n.stale(&b, &seq, Hvn(16)));
        assert!(n.looks_stale(&seq));
    }

    #[test]
    fn r6_a_closed_bracket_stops_every_older_sample() {
        let (n, mut b) = (Notifier::new(), Brackets::default());
        let seq = n.sample();
        n.begin(&mut b, range(8, 8));
        n.end(&mut b);
        assert!(n.stale(&b, &seq, Hvn(100)));
        assert!(!n.stale(&b, &n.sample(), Hvn(8)));
    }

    #[test]
    fn r7_the_range_is_the_hull_until_the_last_bracket_closes() {
        let (n, mut b) = (Notifier::new(), Brackets::default());
        n.begin(&mut b, range(0, 1));
        n.begin(&mut b, range(10, 1));
        n.end(&mut b);
        let seq = n.sample();
        assert!(n.stale(&b, &seq, Hvn(0)) && n.stale(&b, &seq, Hvn(10)));
        n.end(&mut b);
        assert!(!n.stale(&b, &n.sample(), Hvn(0)));
    }
}
