//! What code may do, by what it was given.
//!
//! ```text
//!   &Cpu      anything in its order: ranked locks, grace periods, frames, walks
//!   Atomic    walks, and changes by compare-and-swap; nothing that waits and nothing that needs memory
//! ```
//!
//! Every function that takes a ranked lock, awaits a grace period or takes a frame asks for a [`Cpu`], and nobody gets one
//! out of an [`Atomic`], nor out of a walk that was begun with one ([`WalkGuard::cpu`]). So code that must not wait (R21,
//! G10) does not compile if it does: the fast path of a fault, and handlers that run while the guest's translation is still
//! loaded. What serves both, such as publishing a translation, is given the walk and grows a table only if that may.

use crate::epoch::{Cpu, Domain, WalkGuard};

/// A CPU on which nothing may be waited for: a loan of the CPU without what can be done with it.
#[derive(Clone, Copy, Debug)]
pub struct Atomic<'a>(&'a Cpu);

impl<'a> Atomic<'a> {
    /// The calling CPU, in a context that must not wait.
    #[must_use]
    pub fn on(cpu: &'a Cpu) -> Self {
        Self(cpu)
    }

    /// Begins a walk from which no frame can be had.
    #[inline]
    #[must_use]
    pub fn enter(self, domain: &'a Domain) -> WalkGuard<'a> {
        domain.enter(self.0).atomic()
    }
}
