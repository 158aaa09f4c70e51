//! From the first instruction to a machine description: entry code, client interface, device tree, vectors.
//!
//! The way in: `start.S` makes the image runnable and calls the board's `trivet_boot`; that asks `client` for the
//! tree if the platform did not hand one over; `inventory` reads it; `vectors` makes interrupts harmless.

pub mod inventory;

#[cfg(target_arch = "powerpc64")]
pub mod client;
#[cfg(target_arch = "powerpc64")]
pub mod handed;
#[cfg(target_arch = "powerpc64")]
pub mod vectors;

#[cfg(target_arch = "powerpc64")]
#[expect(unsafe_code, reason = "the image's first instructions, and the ways into big-endian firmware")]
mod assembly {
    // One piece: the latter two use the first one's macros.
    core::arch::global_asm!(
        include_str!("start.S"),
        include_str!("../bare/opal.S"),
        include_str!("../bare/start.S"),
        options(raw)
    );
}
