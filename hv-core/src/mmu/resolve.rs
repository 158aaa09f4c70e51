//! First half of a fault: from a guest frame to a host page, without any lock.

use super::space::Space;
use crate::addr::{Gfn, Hvn};
use crate::epoch::Cpu;
use crate::host::{HostPage, Populate};
use crate::isa::Isa;
use crate::machine::Machine;
use crate::memslot::Slot;
use crate::notifier::InvalidateSeq;
use crate::radix::format::Prot;
use crate::vcpu::exit::Access;

/// A fault that found its page. Consumed by `map`.
#[derive(Debug)]
pub struct Resolved {
    pub(super) seq: InvalidateSeq,
    pub(super) slot: Slot,
    pub(super) hvn: Hvn,
    pub(super) page: HostPage,
    /// What both slot and host page allow.
    pub(super) prot: Prot,
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
    let slot = space.slots.find(&m.epoch().enter(cpu), gfn).ok_or(Unresolved::NoSlot)?;
    let hvn = slot.hvn(gfn).ok_or(Unresolved::NoSlot)?;
    if !slot.prot().contains(needs(access)) {
        return Err(Unresolved::NoSlot);
    }
    let page = match space.host.populate(cpu, m, hvn) {
        Populate::Present(page) | Populate::Fresh(page) => page,
        Populate::Retry => return Err(Unresolved::Retry),
        Populate::NoMemory => return Err(Unresolved::NoMemory),
        Populate::OutOfReach => return Err(Unresolved::NoSlot),
    };
    let prot = slot.prot().intersection(page.prot);
    if !prot.contains(needs(access)) {
        return Err(Unresolved::NoSlot);
    }
    Ok(Resolved { seq, slot, hvn, page, prot })
}
