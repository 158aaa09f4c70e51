//! Intel's extension.
//!
//! Pure: the [`fields`] of its control structure, which [`controls`] are set, what is a guest's own of the
//! [`control_registers`], and what its [`exits`] mean. For the processor: `host` switches it on, `vmcs.rs` holds a vCPU's
//! structure, `switch.rs` runs it, `vcpu` and `state.rs` are the vCPU's half.

pub mod control_registers;
pub mod controls;
pub mod exits;
pub mod fields;

#[cfg(target_os = "none")]
mod beside;
#[cfg(target_os = "none")]
pub mod host;
#[cfg(target_os = "none")]
mod instructions;
#[cfg(target_os = "none")]
mod state;
#[cfg(target_os = "none")]
mod switch;
#[cfg(target_os = "none")]
pub mod vcpu;
#[cfg(target_os = "none")]
mod vmcs;
