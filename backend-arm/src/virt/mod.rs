//! The machine that a guest of the Arm backend finds: RAM, a GICv3, a console, PSCI.

mod bus;
pub mod layout;

pub use bus::Device;
