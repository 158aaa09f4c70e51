//! Intel's extension: the [`fields`] of its control structure, which [`controls`] are set, what is a guest's own of the
//! [`control_registers`], and what its [`exits`] mean. Pure.

pub mod control_registers;
pub mod controls;
pub mod exits;
pub mod fields;
