//! Second half of a fault: publish what was resolved, if it is still true.

use super::level::{Bounds, order};
use super::lock::{Mmu, Target};
use super::resolve::Resolved;
use crate::addr::Gfn;
use crate::isa::{Isa, MapError, Stage2};

/// Publishes `r` for `gfn`.
///
/// The host leaf's size is the one that resolve saw. A leaf that has grown since is merely mapped small; one that has
/// shrunk has raised the sequence, because a split opens its bracket over the whole leaf.
pub(super) fn map<I: Isa>(mmu: &Mmu, to: Target<'_, I>, gfn: Gfn, r: Resolved) -> Result<(), MapError> {
    if mmu.looks_stale(&r.seq) {
        return Err(MapError::Retry);
    }
    let rule = to.stage2.size_rule(&to.claim);
    let bounds = Bounds { gfn, pfn: r.page.pfn, host: r.page.order, slot: &r.slot, rule };
    let Ok(order) = order(&bounds) else { return Err(MapError::Retry) };
    let guard = mmu.lock(to.cpu);
    let fresh = guard.revalidate(r.seq, r.hvn).map_err(|_| MapError::Retry)?;
    fresh.install(to, gfn.align_down(order), r.page.pfn.align_down(order), order, r.prot)
}
