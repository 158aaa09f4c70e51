//! Second half of a fault: publish what was resolved, if it is still true.

use super::level::{Bounds, order};
use super::lock::Target;
use super::resolve::Resolved;
use super::space::Space;
use crate::addr::Gfn;
use crate::epoch::Cpu;
use crate::isa::{Isa, MapError, Stage2};

/// Publishes `r` for `gfn`, on the claim of the fault.
///
/// The host leaf's size is the one that resolve saw. A leaf that has grown since is merely mapped small; one that has
/// shrunk has raised the sequence, because a split opens its bracket over the whole leaf.
pub(super) fn map<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    gfn: Gfn,
    claim: I::Claim,
    r: Resolved,
) -> Result<(), MapError> {
    if space.mmu.looks_stale(&r.seq) {
        return Err(MapError::Retry);
    }
    let rule = space.stage2.size_rule(&claim);
    let bounds = Bounds { gfn, pfn: r.page.pfn, host: r.page.order, slot: &r.slot, rule };
    let Ok(order) = order(&bounds) else { return Err(MapError::Retry) };
    let guard = space.mmu.lock(cpu);
    let fresh = guard.revalidate(r.seq, r.hvn).map_err(|_| MapError::Retry)?;
    let to = Target::<I> { stage2: &space.stage2, cpu, machine: m, claim };
    fresh.install(to, gfn.align_down(order), r.page.pfn.align_down(order), order, r.prot)
}
