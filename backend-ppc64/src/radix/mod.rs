//! Partition-scoped radix tables: second stage of a radix guest.
//!
//! Source: Power ISA v3.0B, Book III, radix tree translation and partition table. Everything is big-endian in memory.

mod format;
mod partition;

pub use format::PartitionScoped;
pub use partition::{TREE_SIZE_52, radix_root};

/// A radix guest's second stage.
pub type RadixStage2 = hv_core::radix::RadixStage2<PartitionScoped>;
