//! A machine without guests, for the benchmark (`main.rs`) and for the tests that watch which cache lines are written.

pub mod arena;
pub mod isa;
pub mod machine;
