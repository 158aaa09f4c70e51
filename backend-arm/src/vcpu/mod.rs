//! One virtual CPU: how a guest is entered and left, what an exit means, and what is done about it.
//!
//! - [`exits`]: what the processor says of an exit, named. Pure.
//! - [`mmio`]: a load or store to a device, as the syndrome describes it, and its completion. Pure.
//! - [`psr`]: program counter and processor state of a guest: past an instruction, into an exception. Pure.
//! - [`sysreg`]: names of trapped system registers; [`idregs`]: what identification registers show. Pure.
//! - [`guards`]: the control registers that confine a guest, with the reason of each bit. Pure.
//! - [`enter`]: the world switch. [`el1`]: the registers that stay loaded from a vCPU's coming to its leaving.
//!
//! What needs the processor is compiled for it only; the rest builds and is tested on the host as well.

pub mod el1;
pub mod enter;
pub mod exits;
pub mod guards;
pub mod idregs;
pub mod mmio;
pub mod psr;
#[cfg(target_arch = "aarch64")]
pub mod registers;
pub mod sysreg;
