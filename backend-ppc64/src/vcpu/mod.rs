//! What all kinds of POWER guests share: machine state, interrupts, the meaning of exits.

pub mod exits;
pub mod msr;
