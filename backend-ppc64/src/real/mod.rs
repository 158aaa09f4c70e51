//! Machines on which Trivet runs in real mode: a frame's address is its number times the page size.
//!
//! - [`memory`]: the half of hv-core's machine that is memory.
//! - [`partitions`]: the partition table.

pub mod memory;
pub mod partitions;
mod ram;
