//! The physical interrupt controller as the platform presents it: XICS by hypercall (LoPAPR, "Interrupt controller").
#![expect(unsafe_code, reason = "hypercalls")]

use super::hcall::{H_CPPR, H_EOI, H_IPI, H_SUCCESS, H_XIRR, hcall};

/// Source number of a CPU's own inter-processor interrupt.
const IPI: u32 = 2;
/// Priority of kicks and devices. Nothing is ever masked by another.
pub const PRIORITY: u8 = 5;
/// Lets everything through, or retracts an inter-processor interrupt.
const NONE: u8 = 0xff;

/// One interrupt, taken from the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing waits.
    Nothing,
    /// A kick.
    Kick,
    /// A device's interrupt, with its source number.
    Device(u32),
}

/// Lets interrupts reach the calling CPU. Once, as it comes up.
pub fn open() {
    // SAFETY: the call changes the presentation controller only.
    unsafe { hcall(H_CPPR, [NONE.into(), 0, 0, 0]) };
}

/// Raises a kick for the CPU with this server number.
pub fn kick(server: u32) {
    // SAFETY: the call changes the presentation controller only.
    unsafe { hcall(H_IPI, [server.into(), PRIORITY.into(), 0, 0]) };
}

/// Takes one interrupt of the calling CPU, whose server number is `server`, and ends it.
pub fn take(server: u32) -> Taken {
    // SAFETY: the calls change the presentation controller only.
    let (status, [xirr, ..]) = unsafe { hcall(H_XIRR, [0; 4]) };
    let source = xirr as u32 & 0x00ff_ffff;
    if status != H_SUCCESS || source == 0 {
        return Taken::Nothing;
    }
    if source == IPI {
        // Retracted before the end of interrupt: a kick that comes after the end is a new one.
        // SAFETY: as above.
        unsafe { hcall(H_IPI, [server.into(), NONE.into(), 0, 0]) };
    }
    // SAFETY: as above.
    unsafe { hcall(H_EOI, [xirr, 0, 0, 0]) };
    if source == IPI { Taken::Kick } else { Taken::Device(source) }
}
