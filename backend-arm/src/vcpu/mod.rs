//! One virtual CPU: how a guest is entered and left, what an exit means, and what is done about it.
//!
//! - [`exits`]: what the processor says of an exit, named. Pure.
//! - [`mmio`]: a load or store to a device, as the syndrome describes it, and its completion. Pure.
//! - [`psr`]: program counter and processor state of a guest: past an instruction, into an exception. Pure.
//! - [`sysreg`]: names of trapped system registers. Pure.
//!
//! What needs the processor is compiled for it only; the rest builds and is tested on the host as well.

pub mod exits;
pub mod mmio;
pub mod psr;
pub mod sysreg;
