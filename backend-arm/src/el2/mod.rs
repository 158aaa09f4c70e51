//! EL2 itself: from the first instruction to a machine description, and what Trivet uses of the machine for its own sake.
//!
//! The way in: `start.S` sets EL2 up, makes the image runnable and calls the board's `trivet_boot`; [`inventory`] reads the
//! device tree; [`map`] plans Trivet's own translations and `mmu` switches to them. `vectors.S` leads exceptions of guests
//! to `vcpu/enter.S`; those of Trivet itself are bugs and end in `vectors::Trap`. Interrupts are never taken at EL2: they are
//! masked there, end a guest's run or a `wfi`, and are found by asking `gic`.

pub mod inventory;
pub mod map;

#[cfg(target_arch = "aarch64")]
pub mod firmware;
#[cfg(target_arch = "aarch64")]
pub mod gic;
#[cfg(target_arch = "aarch64")]
pub mod mmu;
#[cfg(target_arch = "aarch64")]
pub mod pl011;
#[cfg(target_arch = "aarch64")]
pub mod vectors;

#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "the image's first instructions, and the vectors")]
mod assembly {
    core::arch::global_asm!(include_str!("start.S"), include_str!("vectors.S"), options(raw));
}
