//! Intel's extension.
//!
//! Pure: the [`fields`] of its control structure, which [`controls`] are set, what is a guest's own of the
//! [`control_registers`], and what its [`exits`] mean. For the processor: `host` switches it on, `vmcs.rs` holds a vCPU's
//! structure, `switch.rs` runs it, `vcpu` and `state.rs` are the vCPU's half.
//!
//! **The page-modification log is left off.** It would name the pages that were stored to, but hv-core's harvest looks at the
//! dirty bits of a piece anyway, in the bracket in which it clears them. What a log could spare is looking at pieces without
//! any, for which every vCPU inside would have to hand its own over first: nothing in the seam asks for that.

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
