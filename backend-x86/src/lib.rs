//! The x86 backend: what hv-core needs of this instruction set, and what x86 guests need beside it.
//!
//! Two vendors' extensions do the same work: VMX with EPT, and SVM with nested paging. What differs between them is data and
//! meets again in one table and one vCPU.
//!
//! - [`features`]: what this processor has of what the backend asks for.
//! - [`stage2`]: second-stage tables: entries over hv-core's walker, and the values that point hardware at them.
//!
//! Nothing here touches the processor yet: there is no board for it. All of it is built and tested on the host.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod apic;
pub mod bus;
pub mod features;
pub mod stage2;
