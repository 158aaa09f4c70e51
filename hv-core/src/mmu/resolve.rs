//! First half of a fault: from a guest frame to a host page, without any lock.

use super::space::Space;
use crate::addr::{Gfn, Hvn};
use crate::epoch::Cpu;
use crate::host::Populate;
use crate::isa::Isa;
use crate::machine::Machine;
use crate::memslot::Slot;
use crate::notifier::InvalidateSeq;
use crate::radix::format::Prot;
use crate::vcpu::exit::Access;

/// A fault whose page is there, or was a moment ago. Consumed by `map`, which reads the page itself anew.
#[derive(Debug)]
pub struct Resolved {
    pub(super) seq: InvalidateSeq,
    pub(super) slot: Slot,
    pub(super) gfn: Gfn,
    pub(super) hvn: Hvn,
    /// What the access needs; slot and host page allowed it.
    pub(super) need: Prot,
}

/// A fault that did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// No slot there, or one that does not allow the access: for a device to answer.
    NoSlot,
    /// Another CPU is at work on the page: enter the guest again.
    Retry,
    /// No memory for the page.
    NoMemory,
}

/// The permission an access needs.
#[inline]
#[must_use]
pub fn needs(access: Access) -> Prot {
    match access {
        Access::Read => Prot::READ,
        Access::Write => Prot::WRITE,
        Access::Fetch => Prot::EXEC,
    }
}

/// Finds the host page behind `gfn`, populating it if need be.
pub fn resolve<I: Isa>(
    cpu: &Cpu,
    m: &I::Machine,
    space: &Space<I>,
    gfn: Gfn,
    access: Access,
) -> Result<Resolved, Unresolved> {
    // Before the first read of slots or host table (R5).
    let seq = space.mmu.sample();
    let need = needs(access);
    let slot = space.slots.find(&m.epoch().enter(cpu), gfn);
    let slot = slot.filter(|slot| slot.prot().contains(need)).ok_or(Unresolved::NoSlot)?;
    let hvn = slot.hvn(gfn).ok_or(Unresolved::NoSlot)?;
    let page = match space.host.populate(cpu, m, hvn) {
        Populate::Present(page) | Populate::Fresh(page) => page,
        Populate::Retry => return Err(Unresolved::Retry),
        Populate::NoMemory => return Err(Unresolved::NoMemory),
        Populate::OutOfReach => return Err(Unresolved::NoSlot),
    };
    if !page.prot.contains(need) {
        return Err(Unresolved::NoSlot);
    }
    Ok(Resolved { seq, slot, gfn, hvn, need })
}
