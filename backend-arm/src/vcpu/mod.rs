//! One virtual CPU: how a guest is entered and left, what an exit means, and what is done about it.
//!
//! - [`exits`]: what the processor says of an exit, named; [`aborts`]: those that are about an address. Pure.
//! - [`mmio`]: a load or store to a device, as the syndrome describes it, and its completion. Pure.
//! - [`psr`]: program counter and processor state of a guest: past an instruction, into an exception. Pure.
//! - [`sysreg`]: names of trapped system registers; [`idregs`]: what identification registers show. Pure.
//! - [`guards`]: the control registers that confine a guest, with the reason of each bit. Pure.
//! - [`timer`]: the guest's timers, and their lines while it is off a CPU. Pure but for moving them.
//! - [`enter`]: the world switch. [`el1`]: the registers that stay loaded from a vCPU's coming to its leaving; [`fp`] and
//!   [`debug`]: those that are lent at their first use; `lists`: the virtual CPU interface's.
//! - `cpu`: the vCPU itself, over all of these; `turn`: what happens to it between its entries; `calls`: what it does about its
//!   guest's requests.
//!
//! What needs the processor is compiled for it only; the rest builds and is tested on the host as well.

pub mod aborts;
#[cfg(target_arch = "aarch64")]
mod calls;
#[cfg(target_arch = "aarch64")]
pub mod cpu;
pub mod debug;
pub mod el1;
pub mod enter;
pub mod exits;
pub mod fp;
pub mod guards;
pub mod idregs;
#[cfg(target_arch = "aarch64")]
pub mod lists;
pub mod mmio;
pub mod psr;
#[cfg(target_arch = "aarch64")]
pub mod registers;
pub mod sysreg;
pub mod timer;
#[cfg(target_arch = "aarch64")]
pub mod turn;
