//! One virtual CPU's way through the hypervisor.

pub mod env;
pub mod exit;
pub mod run;
pub mod services;
