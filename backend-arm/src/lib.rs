//! The Arm backend: what hv-core needs of this instruction set, and what Arm guests need beside it.
//!
//! Trivet runs at EL2 without the virtualization host extensions, guests at EL1.
//!
//! - [`el2`]: EL2 itself: entry, Trivet's own translations, what the machine is made of, its console and firmware.
//! - [`features`]: what this processor has of what the backend asks for.
//! - [`machine`]: memory, translation caches, the CPUs' interrupts and clock.
//! - [`stage2`]: second-stage tables: entries over hv-core's walker, and the registers that point at them.
//! - [`vcpu`]: one virtual CPU: world switch, exits, exceptions, registers, timers.
//! - [`vgic`]: the interrupt controller that a guest sees.
//! - [`virt`]: the machine around it: where things are, firmware calls, console, device tree.
//!
//! What needs the processor is compiled for it only; the rest builds and is tested on the host as well.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod el2;
pub mod features;
#[cfg(target_arch = "aarch64")]
mod isa;
pub mod machine;
pub mod stage2;
pub mod vcpu;
pub mod vgic;
pub mod virt;

#[cfg(target_arch = "aarch64")]
pub use isa::Arm64;
