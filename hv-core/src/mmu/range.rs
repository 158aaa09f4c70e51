//! Many pages at once, before the guest asks for them.
//!
//! A range is mapped in commit sections of at most [`BATCH`] pages, each with a sample and a test of its own, so that an
//! invalidator never waits long and a bracket elsewhere in the range costs one section's work.

use super::lock::BATCH;
use super::map::replace;
use super::memory::{GuestMemory, Outcome};
use super::resolve::{Unresolved, needs};
use super::space::Space;
use crate::addr::{Gfn, GfnRange, HvnRange};
use crate::epoch::Cpu;
use crate::host::Populate;
use crate::isa::{Isa, MapError};
use crate::machine::Machine;
use crate::radix::format::Prot;
use crate::sync::spin_loop;
use crate::vcpu::exit::Access;

impl<I: Isa<Claim = ()>> GuestMemory<I> {
    /// Populates and maps all of `gfns`, for accesses of this kind, before the guest asks for it. For tables whose faults
    /// carry no claim. `NoSlot` and `NoMemory` may come when a part is mapped already. The caller holds no lock and no
    /// guard.
    pub fn map_range(&self, cpu: &Cpu, m: &I::Machine, gfns: GfnRange, access: Access) -> Outcome {
        let mut left = Some(gfns);
        while let Some(gfns) = left {
            match map_some(cpu, m, self.space(), gfns, needs(access)) {
                Ok(next) if next == gfns.start() => spin_loop(),
                Ok(next) => left = gfns.end().since(next).and_then(|pages| GfnRange::new(next, pages)),
                Err(Unresolved::NoSlot) => return Outcome::NoSlot,
                Err(Unresolved::NoMemory) => return Outcome::NoMemory,
                Err(Unresolved::Retry) => spin_loop(),
            }
        }
        Outcome::Mapped
    }
}

/// Populates and maps the first pages of `gfns`, as many as one section may. Returns the guest frame to go on from, which is
/// the first of them if something changed meanwhile.
fn map_some<I: Isa<Claim = ()>>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    gfns: GfnRange,
    need: Prot,
) -> Result<Gfn, Unresolved> {
    let seq = space.mmu.sample();
    let slot = space.slots.find(&m.epoch().enter(cpu), gfns.start());
    let slot = slot.filter(|slot| slot.prot().contains(need)).ok_or(Unresolved::NoSlot)?;
    let batch = GfnRange::new(gfns.start(), gfns.pages().min(BATCH)).and_then(|some| some.intersect(&slot.gfns()));
    let batch = batch.ok_or(Unresolved::NoSlot)?;
    let pages = slot.hvns_of(&batch).ok_or(Unresolved::NoSlot)?;
    let mut at = pages.start();
    while at < pages.end() {
        at = match space.host.populate(cpu, m, at) {
            Populate::Present(page) | Populate::Fresh(page) if !page.prot.contains(need) => {
                return Err(Unresolved::NoSlot);
            }
            Populate::Present(page) | Populate::Fresh(page) => {
                let block = HvnRange::block(at, page.order).ok_or(Unresolved::NoSlot)?;
                block.end()
            }
            Populate::Retry => {
                spin_loop();
                at
            }
            Populate::NoMemory => return Err(Unresolved::NoMemory),
            Populate::OutOfReach => return Err(Unresolved::NoSlot),
        };
    }
    let to = space.target(m, (), need);
    let done = {
        let section = space.mmu.enter(cpu, m.epoch());
        section
            .revalidate(seq, pages)
            .map_err(MapError::from)
            .and_then(|f| f.install_each(&to, &space.host, &slot, batch))
    };
    match done {
        Ok(next) => Ok(next),
        Err(MapError::TableInWay(order) | MapError::LeafInWay(order)) => {
            match replace(cpu, space, &to, gfns.start(), order) {
                Err(MapError::NoTable) => Err(Unresolved::NoMemory),
                Ok(_) | Err(_) => Ok(gfns.start()),
            }
        }
        Err(MapError::NoTable) => Err(Unresolved::NoMemory),
        Err(MapError::Retry | MapError::Unfit(_)) => Ok(gfns.start()),
    }
}
