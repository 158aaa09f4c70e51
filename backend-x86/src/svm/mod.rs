//! AMD's extension: what the processor's control structure looks like and what its exits mean, which is pure; and AMD's half
//! of a vCPU.

pub mod exits;
#[cfg(target_os = "none")]
mod maps;
#[cfg(target_os = "none")]
pub mod vcpu;
pub mod vmcb;
