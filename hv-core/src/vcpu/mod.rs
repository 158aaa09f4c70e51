//! One virtual CPU's way through the hypervisor.

pub mod exit;
pub mod services;
