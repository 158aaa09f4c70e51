//! Ring 0 itself: from the first instruction to a machine description, and what Trivet uses of the machine for its own sake.
//!
//! The way in: `start.S` brings the boot CPU to long mode and calls the board's `trivet_boot`; [`inventory`] puts together what
//! the loader hands over ([`handover`]) and what firmware's tables say ([`acpi`]); [`map`] plans Trivet's own translations
//! and `mmu` switches to them. `secondary` starts the other CPUs. `vectors` tells how interrupts are taken: never but in its
//! two functions. Exceptions are bugs and end in `vectors::Trap`.

pub mod acpi;
#[cfg(test)]
mod fake;
pub mod handover;
pub mod inventory;
pub mod map;
pub mod physical;
pub mod rates;
pub mod rtc;

#[cfg(target_os = "none")]
pub mod apic;
#[cfg(target_os = "none")]
pub mod descriptors;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
pub mod mmu;
#[cfg(target_os = "none")]
pub mod power;
#[cfg(target_os = "none")]
pub mod routes;
#[cfg(target_os = "none")]
pub mod secondary;
#[cfg(target_os = "none")]
pub mod serial;
#[cfg(target_os = "none")]
pub mod timers;
#[cfg(target_os = "none")]
pub mod vectors;

#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "the image's first instructions, and the vectors")]
mod assembly {
    core::arch::global_asm!(include_str!("start.S"), options(att_syntax, raw));
    core::arch::global_asm!(include_str!("vectors.S"), options(raw));
}
