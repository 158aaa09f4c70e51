//! Intel's extension: the fields of its control structure, which controls are set, and what its exits mean. Pure.

pub mod controls;
pub mod exits;
pub mod fields;
