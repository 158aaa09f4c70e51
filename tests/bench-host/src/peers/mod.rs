//! The competitors: by hand, and other people's crates.

pub mod aarch64;
pub mod by_hand;
pub mod multiarch;
pub mod x86;
