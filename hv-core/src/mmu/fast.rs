//! The fast path of a fault: the page is there, and so are the tables.
//!
//! ```text
//!   sample (R5) -> walk begun, which is the commit section -> slot -> revalidate (R6) -> primary -> install: one CAS
//! ```
//!
//! It runs where nothing may be waited for ([`Atomic`]): no lock, no frame, no grace period, no loop over somebody else's
//! progress. Whatever is out of the ordinary (no slot, a hole, an entry in transition, an open bracket, no table where the
//! leaf belongs, the wrong size there) is left to the slow path by [`Fast::Defer`].
//!
//! **A deferral has changed nothing** (R21; memory-rules' N2): the one store is the last step, a compare-and-swap that
//! either publishes all of the answer or nothing. It carries nothing either: the slow path reads every input again, so
//! nothing that was seen here can be stale there (exhibit A5).
//!
//! What it publishes is what the slow path would have: the same tests, in the same section, by the same functions.

use super::resolve::needs;
use super::space::Space;
use crate::addr::HvnRange;
use crate::context::Atomic;
use crate::isa::Isa;
use crate::machine::Machine;
use crate::vcpu::exit::Fault;

/// How the fast path ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a deferral is to be taken to the slow path"]
pub enum Fast {
    /// The translation is there.
    Done,
    /// Nothing has been changed: take the slow path, from its beginning.
    Defer,
}

/// Answers a second-stage fault, if that needs nothing but what is there.
pub fn fast<I: Isa>(ctx: Atomic<'_>, m: &I::Machine, space: &Space<I>, fault: &Fault<I::Claim>) -> Fast {
    match attempt(ctx, m, space, fault) {
        Some(()) => Fast::Done,
        None => Fast::Defer,
    }
}

fn attempt<I: Isa>(ctx: Atomic<'_>, m: &I::Machine, space: &Space<I>, fault: &Fault<I::Claim>) -> Option<()> {
    let (gfn, need) = (fault.gpa.page(), needs(fault.access));
    let seq = space.mmu.sample();
    let section = space.mmu.within(ctx.enter(m.epoch()));
    let slot = space.slots.find(section.walk(), gfn)?;
    let hvn = slot.hvn(gfn)?;
    let fresh = section.revalidate(seq, HvnRange::new(hvn, 1)?).ok()?;
    let primary = fresh.primary(m, &space.host, hvn).ok()?;
    let to = space.target(m, fault.claim, need);
    fresh.install(&to, &slot, gfn, primary).ok().map(drop)
}
