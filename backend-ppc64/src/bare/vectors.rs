//! Interrupt vectors of a hypervisor in hypervisor mode: those by which guests leave, and those of bugs of its own.
//!
//! A guest's exit is delivered in real mode, or, from a guest of POWER9 that has its own interrupts taken with translation on
//! (LPCR\[AIL\] = 3), with translation on at [`RELOCATED`], through the tree of [`super::linear`]. Its stub is in both
//! places; both go by the one trampoline, which turns translation off and jumps into the image (`enter.S`).
#![expect(unsafe_code, reason = "writes the vectors into low memory, where the architecture wants them")]

use super::stubs::{EXIT, RELOCATED, TRAMPOLINE, TRAP, exit_stub, trampoline};
use crate::boot::vectors::{install_trap, place};

pub use super::stubs::LOW;

unsafe extern "C" {
    fn trivet_guest_exit();
}

/// Writes all of them.
///
/// # Safety
/// Once, on the boot CPU: this overwrites real memory in [`LOW`]. The image lies above that and below 2 GiB, and
/// interrupts in hypervisor state are taken little-endian. Before a CPU takes one, HSPRG0 is set ([`super::enter::arrive`]).
pub unsafe fn install() {
    for vector in TRAP {
        // SAFETY: the caller gives up this memory.
        unsafe { install_trap(vector) };
    }
    for base in [0, RELOCATED] {
        for vector in EXIT {
            // SAFETY: as above.
            unsafe { place(base + vector, exit_stub(base, vector)) };
        }
    }
    let [first, second] = trampoline(trivet_guest_exit as *const () as usize as u32);
    // SAFETY: as above.
    unsafe {
        place(TRAMPOLINE, first);
        place(TRAMPOLINE + 32, second);
    }
}
