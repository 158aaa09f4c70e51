//! Trivet in hypervisor mode of a bare machine under skiboot: POWER9 and POWER10; POWER8, with hashed tables only.
//!
//! What a platform with nested HV does for `nested` is done here: `enter` is its `H_ENTER_NESTED`, of the same two
//! blocks; `machine` owns the partition table, translation caches and CPUs; `opal` is firmware.

pub mod linear;
pub mod stale;
pub mod stubs;
pub mod words;

#[cfg(target_arch = "powerpc64")]
pub mod enter;
#[cfg(target_arch = "powerpc64")]
pub mod hashed;
#[cfg(target_arch = "powerpc64")]
pub mod machine;
#[cfg(target_arch = "powerpc64")]
pub mod opal;
#[cfg(target_arch = "powerpc64")]
pub mod stage2;
#[cfg(target_arch = "powerpc64")]
mod tlb;
#[cfg(target_arch = "powerpc64")]
pub mod translated;
#[cfg(target_arch = "powerpc64")]
pub mod vectors;

#[cfg(target_arch = "powerpc64")]
mod isa;
#[cfg(target_arch = "powerpc64")]
pub use isa::Ppc64Bare;
