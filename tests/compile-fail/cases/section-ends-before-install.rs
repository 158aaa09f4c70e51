//! E0505: the section ends between the test and the publication, so that an invalidation fits in between (R6).

use hv_core::addr::{Gfn, Hvn, HvnRange, Order};
use hv_core::epoch::Cpu;
use hv_core::isa::{Isa, MapError};
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::lock::Target;
use hv_core::mmu::space::Space;

pub fn publish<I: Isa>(
    cpu: &Cpu,
    s: &Space<I>,
    to: &Target<'_, I>,
    slot: &Slot,
    gfn: Gfn,
    hvn: Hvn,
) -> Result<Order, MapError> {
    let seq = s.mmu.sample();
    let section = s.mmu.enter(cpu, to.machine.epoch());
    let pages = HvnRange::new(hvn, 1).ok_or(MapError::Retry)?;
    let fresh = section.revalidate(seq, pages)?;
    let primary = fresh.primary(to.machine, &s.host, hvn)?;
    #[cfg(misuse)]
    drop(section);
    fresh.install(to, slot, gfn, primary)
}
