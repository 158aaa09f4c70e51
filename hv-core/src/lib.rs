//! The architecture-neutral rules of second-stage memory virtualization, and the vCPU loop around them.
//!
//! - One flow: enter, classify, resolve, map, complete, enter. Each step consumes the last one's value.
//! - The whole seam to an instruction set is two files: [`isa`] and [`machine`].
//! - Nothing here is unsafe; nothing here knows which architecture it is built for.
//! - Rules are types where they can be: a present leaf is made only by [`mmu::lock::Fresh::install`], a frame is given
//!   back only after a flush and a grace period, an entry cell does not outlive its [`epoch::WalkGuard`].
//! - The guest is hostile, the configuration is fallible, memory runs out; none of these panics.
//!
//! Rule numbers (R1 to R27) are those of the project's rule book, ARCHITECTURE.md.
#![cfg_attr(not(any(test, loom, shuttle)), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod calendar;
pub mod context;
pub mod device;
pub mod epoch;
pub mod flat;
pub mod guest;
pub mod heap;
pub mod host;
pub mod hypervisor;
pub mod isa;
pub mod link;
pub mod log;
pub mod machine;
pub mod memslot;
pub mod mmu;
pub mod monitor;
pub mod notifier;
pub mod page;
pub mod radix;
pub mod sched;
pub mod sync;
pub mod vcpu;
pub mod vm;
