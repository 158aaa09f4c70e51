//! The mmu lock and the tokens that make a wrong order not compile.
//!
//! ```text
//!   InvalidateSeq (sampled before anything was read; not Copy)
//!      -> MmuGuard::revalidate(seq) -> Fresh, or Retry
//!           -> Fresh::install(..), which alone can make a Mapping, which alone Stage2::map takes
//! ```
//!
//! `Fresh` borrows the guard, so a present leaf is published in the same critical section as the re-check (R6).
//! Nothing outside this file knows what the lock is: it is to become an asymmetric one, where a fault writes no shared
//! line.

use crate::addr::{Gfn, Hvn, HvnRange, Order, Pfn};
use crate::epoch::Cpu;
use crate::isa::{Isa, MapError, Stage2};
use crate::notifier::{Brackets, InvalidateSeq, Notifier};
use crate::radix::format::Prot;
use crate::sync::{Rank, Ranked, RankedGuard};

/// The lock of one VM's stage 2, with the invalidation state it protects.
#[derive(Debug)]
pub struct Mmu {
    lock: Ranked<Brackets>,
    notifier: Notifier,
}

/// The mmu lock, held by this CPU.
#[derive(Debug)]
pub struct MmuGuard<'a> {
    brackets: RankedGuard<'a, Brackets>,
    notifier: &'a Notifier,
}

/// Something changed since the sample: drop everything derived from it and enter the guest again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry;

/// Proof that nothing a fault read has been invalidated, for as long as the mmu lock is held.
#[derive(Debug)]
pub struct Fresh<'g> {
    _lock: &'g MmuGuard<'g>,
}

/// A translation that may be published. Only [`Fresh::install`] makes one.
#[derive(Debug)]
pub struct Mapping {
    gfn: Gfn,
    pfn: Pfn,
    order: Order,
    prot: Prot,
}

impl Mapping {
    /// The first guest frame, aligned to the order.
    #[must_use]
    pub fn gfn(&self) -> Gfn {
        self.gfn
    }

    /// The first physical frame, aligned to the order.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// The size.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// What the guest may do.
    #[must_use]
    pub fn prot(&self) -> Prot {
        self.prot
    }
}

impl Mmu {
    /// Nobody holds it, nothing is being invalidated.
    #[must_use]
    pub fn new() -> Self {
        Self { lock: Ranked::new(Rank::Mmu, Brackets::default()), notifier: Notifier::new() }
    }

    /// Samples the invalidation sequence (R5).
    #[must_use]
    pub fn sample(&self) -> InvalidateSeq {
        self.notifier.sample()
    }

    /// Is the attempt as good as lost already? Only saves waiting for the lock.
    #[must_use]
    pub fn looks_stale(&self, seq: &InvalidateSeq) -> bool {
        self.notifier.looks_stale(seq)
    }

    /// Takes the lock.
    pub fn lock<'a>(&'a self, cpu: &'a Cpu) -> MmuGuard<'a> {
        MmuGuard { brackets: self.lock.lock(cpu), notifier: &self.notifier }
    }
}

impl Default for Mmu {
    fn default() -> Self {
        Self::new()
    }
}

impl MmuGuard<'_> {
    /// Is what was derived since `seq` about `page` still true? The sample is used up either way.
    pub fn revalidate(&self, seq: InvalidateSeq, page: Hvn) -> Result<Fresh<'_>, Retry> {
        if self.notifier.stale(&self.brackets, &seq, page) { Err(Retry) } else { Ok(Fresh { _lock: self }) }
    }

    /// Opens a bracket. Called by `zap` only, which zaps and flushes under this same guard.
    pub(super) fn begin(&mut self, range: HvnRange) {
        self.notifier.begin(&mut self.brackets, range);
    }

    /// Closes a bracket. Called by `zap` only.
    pub(super) fn end(&mut self) {
        self.notifier.end(&mut self.brackets);
    }
}

impl Fresh<'_> {
    /// Publishes a translation of the `order` pages from `gfn` to those from `pfn`.
    pub fn install<I: Isa>(
        self,
        to: Target<'_, I>,
        gfn: Gfn,
        pfn: Pfn,
        order: Order,
        prot: Prot,
    ) -> Result<(), MapError> {
        to.stage2.map(to.cpu, to.machine, to.claim, Mapping { gfn, pfn, order, prot })
    }
}

/// Where a translation is to be published, by whom, and on what claim.
#[derive(Debug)]
pub struct Target<'a, I: Isa> {
    /// The table.
    pub stage2: &'a I::Stage2,
    /// The calling CPU.
    pub cpu: &'a Cpu,
    /// The machine.
    pub machine: &'a I::Machine,
    /// What the fault must still find true.
    pub claim: I::Claim,
}
