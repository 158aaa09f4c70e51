//! E0308: the level comes from what resolving saw, before the section began (R13).

use hv_core::addr::{Gfn, Hvn, HvnRange, Order};
use hv_core::epoch::Cpu;
use hv_core::isa::{Isa, MapError};
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::lock::Target;
use hv_core::mmu::space::Space;

use hv_core::host::HostPage;

pub fn publish<I: Isa>(
    cpu: &Cpu,
    s: &Space<I>,
    to: &Target<'_, I>,
    slot: &Slot,
    gfn: Gfn,
    hvn: Hvn,
    resolved: HostPage,
) -> Result<Order, MapError> {
    let seq = s.mmu.sample();
    let section = s.mmu.enter(cpu, to.machine.epoch());
    let fresh = section.revalidate(seq, HvnRange::new(hvn, 1).ok_or(MapError::Retry)?)?;
    let primary = fresh.primary(to.machine, &s.host, hvn)?;
    #[cfg(misuse)]
    let primary = resolved;
    #[cfg(not(misuse))]
    let _ = resolved;
    fresh.install(to, slot, gfn, primary)
}
