//! AMD's extension: what the processor's control structure looks like and what its exits mean. Pure.

pub mod exits;
pub mod vmcb;
