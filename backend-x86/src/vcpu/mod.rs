//! One virtual CPU: how a guest is entered and left, and what is done about what it asks for.
//!
//! - `hardware`: the seam to the two vendors' halves, which are in [`crate::svm`] and [`crate::vmx`].
//! - `cpu`: the vCPU itself; `turn`: what happens to it between its entries; `calls`: what it does about its guest's requests.
//! - `device`: accesses to devices, which it finds out about by reading the guest's instructions; [`memory`]: how it reads them.
//! - `extras`: registers that both vendors leave to Trivet.
//! - [`lengths`]: how long instructions were that have been met before.
//!
//! What needs the processor is compiled for it only; the rest builds and is tested on the host as well.

#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
mod device;
#[cfg(target_os = "none")]
mod extras;
#[cfg(target_os = "none")]
pub mod hardware;
pub mod lengths;
pub mod memory;
#[cfg(target_os = "none")]
mod turn;
