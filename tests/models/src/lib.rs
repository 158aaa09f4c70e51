//! Races of the shipped source, each written once over the fake machine and explored by a model checker.
//!
//! Built with `RUSTFLAGS="--cfg loom" cargo test -p models --release`: hv-core's `sync` then names loom's types, the host
//! table has one bit a level, and the checker tries every interleaving within its preemption bound, with the hardware's
//! translation caches as part of the world. Without that flag there is nothing here to run.

pub mod fault_unmap;
