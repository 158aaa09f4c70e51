//! The machine: memory as Trivet's identity map shows it, translation caches, interrupts, the clock.
//!
//! A frame's address is its number times the page size, and table cells are plain memory, coherent with table walks.
//! A processor of x86 drops cached translations of its own only: a flush is a request to each CPU ([`inside`]).

pub mod alarm;
pub mod inside;
pub mod tagged;

#[cfg(target_os = "none")]
mod arrive;
#[cfg(target_os = "none")]
pub mod clock;
#[cfg(target_os = "none")]
pub(crate) mod identify;
#[cfg(target_os = "none")]
mod ram;
#[cfg(target_os = "none")]
mod x86;

#[cfg(target_os = "none")]
pub use arrive::CannotRun;
#[cfg(target_os = "none")]
pub use x86::{Found, MachineError, X86Machine};
