//! The machine that a guest of the x86 backend finds: RAM with a hole below 4 GiB, and what stands in place of firmware.

pub mod acpi;
mod blob;
pub mod boot;
pub mod kernel;
pub mod layout;
pub mod memory_map;
pub mod pc;
pub mod pit;
#[cfg(target_os = "none")]
mod platform;
pub mod rtc;
pub mod told;
