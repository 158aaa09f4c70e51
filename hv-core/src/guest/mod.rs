//! What a VM is made of, and its life.

pub mod manifest;
