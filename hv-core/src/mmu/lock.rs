//! The commit section, the mmu lock, and the tokens that make a wrong order not compile.
//!
//! ```text
//!   InvalidateSeq   sampled before anything was read; not Copy
//!     -> Commit::revalidate(seq)   in a commit section: no lock, no line that another CPU writes
//!     or MmuGuard::revalidate(seq) under the mmu lock, where nothing else may publish or invalidate
//!       -> Fresh, or Retry
//!         -> Fresh::primary        the host table's leaf as it is now: the only source of a frame and of a size (R11-R13)
//!           -> Fresh::install      computes the level, makes the Mapping, which alone Stage2::map takes
//! ```
//!
//! `Fresh` and `Primary` borrow the section, so a present leaf is published in the same section as the tests (R6), and
//! a frame or a size that was read earlier, or taken from a page's team, is nothing that `install` takes.
//!
//! The lock is asymmetric. A section is a walk guard: it costs a fence and a store to the CPU's own cache line. An
//! invalidator, under the lock, opens its bracket and then waits for a grace period: every section that did not see the
//! bracket is over before it zaps. [`crate::notifier`] has the proof.
//!
//! ```text
//!   fault                              invalidator
//!   enter                              lock; bracket opened
//!   revalidate: nothing open                grace period begins
//!   install                                 .
//!   leave                                   grace period ends
//!                                      zap meets the leaf; flush; unlock
//! ```
//!
//! Exhibits B1, B2, B8 and B9 (the tests), X1 (no grace period), C1 and E6 (the size), H1 and H2 (a table where a leaf
//! shall go).

mod publish;

use core::marker::PhantomData;

use crate::addr::{Gfn, Hvn, HvnRange, Order, Pfn};
use crate::epoch::{Cpu, Domain, WalkGuard};
use crate::isa::{Isa, MapError};
use crate::machine::Machine;
use crate::mmu::dirty::DirtyLog;
use crate::mmu::level::Logging;
use crate::notifier::{Brackets, InvalidateSeq, Notifier};
use crate::radix::format::Prot;
use crate::sync::{Rank, Ranked, RankedGuard};

/// The most pages that one section publishes: for so long an invalidator may have to wait for it.
pub const BATCH: u64 = 512;

/// Who may publish and who may invalidate, for one VM's stage 2.
#[derive(Debug)]
pub struct Mmu {
    lock: Ranked<Brackets>,
    notifier: Notifier,
}

/// A commit section: an invalidator that has not been seen waits until it is over. Not `Send`. Wait for nothing in it.
#[derive(Debug)]
pub struct Commit<'a> {
    notifier: &'a Notifier,
    walk: WalkGuard<'a>,
}

/// The mmu lock, held by this CPU: one invalidator at a time.
#[derive(Debug)]
pub struct MmuGuard<'a> {
    held: RankedGuard<'a, Brackets>,
    notifier: &'a Notifier,
    cpu: &'a Cpu,
}

/// The mmu lock, and proof that what was derived of these pages is still true and that nobody else can change that.
#[derive(Debug)]
pub struct Alone<'l, 'a> {
    guard: &'l mut MmuGuard<'a>,
    pages: HvnRange,
}

/// Something changed since the sample: drop everything derived from it and enter the guest again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry;

impl From<Retry> for MapError {
    fn from(_: Retry) -> Self {
        Self::Retry
    }
}

/// Proof that nothing that was derived of these pages has been invalidated, for as long as the section lasts.
#[derive(Debug)]
pub struct Fresh<'g> {
    notifier: &'g Notifier,
    walk: &'g WalkGuard<'g>,
    pages: HvnRange,
}

/// A page of the host table as it is in this section. Only [`Fresh::primary`] makes one.
#[derive(Debug)]
pub struct Primary<'g> {
    page: Hvn,
    pfn: Pfn,
    order: Order,
    prot: Prot,
    section: PhantomData<&'g WalkGuard<'g>>,
}

/// Witness that every commit takes its frame and its size from the host leaf, read in its own section. Whoever lets a
/// shared extent be used between its invalidation and its end asks for it (R13).
#[derive(Debug)]
pub struct PrimaryTested(());

/// A translation that may be published in this section, by who asked for it. Only [`Fresh::prepare`] makes one.
#[derive(Debug)]
pub struct Prepared<'g> {
    mapping: Mapping,
    section: PhantomData<&'g WalkGuard<'g>>,
}

/// A translation that may be published. Only [`Fresh::install`] and [`Fresh::prepare`] make one.
#[derive(Debug)]
pub struct Mapping {
    gfn: Gfn,
    pfn: Pfn,
    order: Order,
    prot: Prot,
    log: Logging,
}

/// Where a translation is to be published, by whom, for what access, and on what claim.
#[derive(Debug)]
pub struct Target<'a, I: Isa> {
    /// The table.
    pub stage2: &'a I::Stage2,
    /// The machine.
    pub machine: &'a I::Machine,
    /// The log that wants to know which pages are stored to. Asked in the section.
    pub dirty: &'a DirtyLog,
    /// What the fault must still find true.
    pub claim: I::Claim,
    /// What the access needs: a translation that allows less is no answer.
    pub need: Prot,
}

impl Mmu {
    /// Nobody holds it, nothing is being invalidated.
    #[must_use]
    pub fn new() -> Self {
        Self { lock: Ranked::new(Rank::Mmu, Brackets::default()), notifier: Notifier::new() }
    }

    /// Samples the invalidation sequence (R5).
    #[inline]
    #[must_use]
    pub fn sample(&self) -> InvalidateSeq {
        self.notifier.sample()
    }

    /// Enters a commit section. `domain` is the machine's.
    #[inline]
    pub fn enter<'a>(&'a self, cpu: &'a Cpu, domain: &'a Domain) -> Commit<'a> {
        self.within(domain.enter(cpu))
    }

    /// Makes a walk a commit section: it can publish what the walk may.
    #[inline]
    pub fn within<'a>(&'a self, walk: WalkGuard<'a>) -> Commit<'a> {
        Commit { notifier: &self.notifier, walk }
    }

    /// Takes the lock. The caller holds no guard.
    pub fn lock<'a>(&'a self, cpu: &'a Cpu) -> MmuGuard<'a> {
        MmuGuard { held: self.lock.lock(cpu), notifier: &self.notifier, cpu }
    }
}

impl Default for Mmu {
    fn default() -> Self {
        Self::new()
    }
}

impl Commit<'_> {
    /// The walk that the section is.
    #[inline]
    #[must_use]
    pub fn walk(&self) -> &WalkGuard<'_> {
        &self.walk
    }

    /// Is what was derived of `pages` since `seq` still true? The sample is used up either way.
    #[inline]
    pub fn revalidate(&self, seq: InvalidateSeq, pages: HvnRange) -> Result<Fresh<'_>, Retry> {
        if self.notifier.stale(&seq, &pages) {
            return Err(Retry);
        }
        Ok(Fresh { notifier: self.notifier, walk: &self.walk, pages })
    }
}

impl Primary<'_> {
    /// The page's frame and what the host side allows. For derived things that are no translations; the caller keeps them
    /// no longer than the next bracket over the page.
    pub(super) fn frame(&self) -> (Pfn, Prot) {
        (self.pfn, self.prot)
    }
}

impl<'a> MmuGuard<'a> {
    /// The second form of the test: what it finds true stays true while the lock is held.
    pub fn revalidate(&mut self, seq: InvalidateSeq, pages: HvnRange) -> Result<Alone<'_, 'a>, Retry> {
        if self.notifier.stale(&seq, &pages) {
            return Err(Retry);
        }
        Ok(Alone { guard: self, pages })
    }

    /// Opens a bracket and waits until every section that has not seen it is over. Called by this module and by `zap`
    /// only, which zap and flush before they let the lock go (R8, R9).
    pub(super) fn begin<M: Machine>(&mut self, m: &M, range: &HvnRange) {
        self.notifier.begin(&mut self.held, range);
        m.epoch().synchronize(self.cpu);
    }

    /// Closes a bracket.
    pub(super) fn end(&mut self) {
        self.notifier.end(&mut self.held);
    }
}

impl Alone<'_, '_> {
    /// Break before make (R10): opens a bracket over the pages, has `clear` remove and flush what is derived of them, has
    /// `publish` put something else there, and closes the bracket. In between nobody can publish there.
    pub(super) fn replace<M: Machine, R>(self, m: &M, clear: impl FnOnce(), publish: impl FnOnce(Fresh<'_>) -> R) -> R {
        self.guard.begin(m, &self.pages);
        clear();
        let result = {
            let walk = m.epoch().enter(self.guard.cpu);
            publish(Fresh { notifier: self.guard.notifier, walk: &walk, pages: self.pages })
        };
        self.guard.end();
        result
    }
}
