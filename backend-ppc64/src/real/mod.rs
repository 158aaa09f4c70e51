//! Machines on which Trivet runs in real mode: a frame's address is its number times the page size.
//!
//! - [`memory`]: the half of hv-core's machine that is memory.
//! - [`inside`]: which guest each CPU is inside, and waiting until nobody is.
//! - [`partitions`]: the partition table.

pub mod inside;
pub mod memory;
pub mod partitions;
mod ram;
