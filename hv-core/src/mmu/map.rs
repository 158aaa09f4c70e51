//! Second half of a fault: publish what was resolved, if it is still true.
//!
//! A table may stand where a large leaf belongs: pages of a block that were mapped one by one, or an empty table that is
//! left of them, while the host table has come to have a large leaf there. Then the block is broken up before the leaf is
//! made (R10), in a bracket of its own: nothing is replaced in place, and no CPU has both forms cached (exhibits H1, H2).
//!
//! The other way round while a dirty log is on: the block is mapped with one leaf, for loads only, and a page of it is stored
//! to. It is broken up in the same way, and what is made is the page, writable, and the rest page by page for loads, so that
//! the other 511 go on being read (exhibit E6). Of a leaf of 1 GiB that is the 2 MiB around the page.
//!
//! ```text
//!   install: TableInWay(order), LeafInWay(order)    the section ends here
//!   replace: sample (R5) -> slot -> lock -> revalidate the block (R6)
//!            bracket over it, grace -> unmap, unlink, flush -> install -> bracket closed, unlock
//! ```

use super::lock::Target;
use super::resolve::Resolved;
use super::space::Space;
use super::zap::clear;
use crate::addr::{Gfn, GfnRange, HvnRange, Order};
use crate::epoch::Cpu;
use crate::isa::{Isa, MapError};
use crate::machine::Machine;

/// Publishes `r`, on the claim of the fault.
pub(super) fn map<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    claim: I::Claim,
    r: Resolved,
) -> Result<(), MapError> {
    let to = space.target(m, claim, r.need);
    let gfn = r.gfn;
    match publish(cpu, space, &to, r) {
        Ok(_) => Ok(()),
        Err(MapError::TableInWay(order) | MapError::LeafInWay(order)) => {
            (space.replace)(cpu, space, &to, gfn, order).map(|_| ())
        }
        Err(error) => Err(error),
    }
}

/// The commit section.
fn publish<I: Isa>(cpu: &Cpu, space: &Space<I>, to: &Target<'_, I>, r: Resolved) -> Result<Order, MapError> {
    let page = HvnRange::new(r.hvn, 1).ok_or(MapError::Retry)?;
    let section = space.mmu.enter(cpu, to.machine.epoch());
    let fresh = section.revalidate(r.seq, page)?;
    let primary = fresh.primary(to.machine, &space.host, r.hvn)?;
    fresh.install(to, &r.slot, r.gfn, primary)
}

/// Breaks up what the block of `order` around `gfn` is mapped with, and publishes what belongs there.
pub(super) fn replace<I: Isa>(
    cpu: &Cpu,
    space: &Space<I>,
    to: &Target<'_, I>,
    gfn: Gfn,
    order: Order,
) -> Result<Order, MapError> {
    let m = to.machine;
    let seq = space.mmu.sample();
    let slot = space.slots.find(&m.epoch().enter(cpu), gfn).ok_or(MapError::Retry)?;
    let block = GfnRange::block(gfn, order).ok_or(MapError::Retry)?;
    // All of the block, or it is not the slot any more that the leaf was fit for.
    let pages = slot.hvns_of(&block).filter(|pages| pages.pages() == order.pages()).ok_or(MapError::Retry)?;
    let mut guard = space.mmu.lock(cpu);
    let alone = guard.revalidate(seq, pages)?;
    alone.replace(
        m,
        || clear(cpu, m, space, &[(slot, block)], space.change_log()).release(cpu, m),
        |fresh| fresh.install_among(to, &space.host, &slot, gfn, block),
    )
}
