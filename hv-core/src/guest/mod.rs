//! What a VM is made of, and its life.

pub mod bundle;
pub mod lifecycle;
pub mod loader;
pub mod manifest;
