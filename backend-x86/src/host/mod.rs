//! Ring 0 itself: from the first instruction to a machine description, and what Trivet uses of the machine for its own sake.

#[cfg(target_os = "none")]
pub mod apic;
#[cfg(target_os = "none")]
pub mod descriptors;
#[cfg(target_os = "none")]
pub mod vectors;

#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "the image's first instructions, and the vectors")]
mod assembly {
    core::arch::global_asm!(include_str!("vectors.S"), options(raw));
}
