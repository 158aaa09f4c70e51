//! The machine: memory as EL2's identity map shows it, translation caches, interrupts, the clock.
//!
//! A frame's address is its number times the page size, and table cells are plain memory, coherent with table walks.
//! Flushes are broadcast by the processor ([`tlb`]), so no CPU has to leave its guest for one.

pub mod tlb;

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "aarch64")]
pub mod clock;
#[cfg(target_arch = "aarch64")]
pub mod icc;
#[cfg(target_arch = "aarch64")]
mod identify;
#[cfg(target_arch = "aarch64")]
mod ram;

#[cfg(target_arch = "aarch64")]
pub use arm::{ArmMachine, Found, MachineError};
