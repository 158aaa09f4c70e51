//! Device models that no instruction set owns.

pub mod console;
