//! What all kinds of POWER guests share: the virtual CPU, its state, the meaning of exits, and what guests find in place of
//! firmware. What runs a guest is behind `power::Host`.

pub mod exits;
pub mod layout;
pub mod msr;

#[cfg(target_arch = "powerpc64")]
pub mod cpu;
#[cfg(target_arch = "powerpc64")]
pub mod hashed;
#[cfg(target_arch = "powerpc64")]
mod platform;
#[cfg(target_arch = "powerpc64")]
pub mod power;
#[cfg(target_arch = "powerpc64")]
pub mod sprs;
