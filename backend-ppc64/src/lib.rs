//! The POWER backend: what hv-core needs of this instruction set, and what POWER guests need beside it.
//!
//! - [`radix`]: partition-scoped radix tables, a format over hv-core's walker.
//! - [`hash`]: hashed page tables, which the guest fills by hypervisor calls.
//! - [`papr`] and [`irq`]: what an unmodified Linux finds instead of firmware. Pure logic, tested on the host.
//! - [`vcpu`]: virtual CPUs, shared by all ways to run a guest.
//! - [`inside`]: which guest each CPU is inside, and waiting until nobody is.
//! - `real`: machines on which Trivet runs in real mode.
//! - `nested`: guests run by a PAPR platform's nested-HV interface; this hypervisor is itself a partition.
//! - [`nested_host`]: that interface as it is offered to guests, which are hypervisors then.
//! - [`bare`]: guests run in hypervisor mode, under skiboot.
//! - [`boot`]: from the first instruction to a machine description.
//!
//! What needs the processor is compiled for it only; the rest builds and is tested on the host as well.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod bare;
pub mod boot;
pub mod hash;
pub mod inside;
pub mod irq;
pub mod nested;
pub mod nested_host;
pub mod papr;
pub mod radix;
#[cfg(target_arch = "powerpc64")]
mod real;
pub mod vcpu;
