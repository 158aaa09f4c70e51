//! The x86 backend: what hv-core needs of this instruction set, and what x86 guests need beside it.
//!
//! Two vendors' extensions do the same work: VMX with EPT, and SVM with nested paging. What differs between them is data and
//! meets again in one table and one vCPU.
//!
//! - [`apic`], [`ioapic`]: the interrupt controllers that a guest sees; [`uart`]: its console.
//! - [`bus`]: what an access to a device looks like.
//! - [`decode`]: instructions that hardware leaves to us.
//! - [`event`]: what is delivered to a guest; [`paging`]: its own page tables.
//! - [`features`]: what this processor has of what the backend asks for.
//! - [`guest`]: the machine that it finds itself in.
//! - [`host`]: ring 0 itself: entry, Trivet's own translations, what the machine is made of, its console and power.
//! - [`machine`]: memory, translation caches, the CPUs' interrupts and clock.
//! - [`policy`]: what a guest is shown of the processor, and may touch of it; [`msr_map`]: what of that without an exit.
//! - [`stage2`]: second-stage tables: entries over hv-core's walker, and the values that point hardware at them.
//! - [`start`]: how a vCPU begins.
//! - [`svm`], [`vmx`]: the vendors' control structures, and their exits as [`exit`] names them.
//! - [`tags`]: which tag a vCPU has in a CPU's translation caches.
//! - [`vcpu`]: one virtual CPU over both vendors' halves.
//!
//! What needs the processor to itself is compiled for bare metal only; the rest builds and is tested on the host as well.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod apic;
pub mod bus;
pub mod decode;
pub mod event;
pub mod exit;
pub mod features;
pub mod guest;
pub mod host;
pub mod ioapic;
#[cfg(target_os = "none")]
mod isa;
pub mod machine;
pub mod msr_map;
pub mod paging;
pub mod policy;
pub mod stage2;
pub mod start;
pub mod svm;
pub mod tags;
pub mod uart;
pub mod vcpu;
pub mod vmx;

#[cfg(target_os = "none")]
pub use isa::X86;
