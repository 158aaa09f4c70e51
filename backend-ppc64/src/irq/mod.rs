//! Interrupt controllers that guests see.

pub mod xics;
