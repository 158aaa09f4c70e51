//! Interrupt vectors of a hypervisor in hypervisor mode: those by which guests leave, and those of bugs of its own.
//!
//! A guest's exit is delivered in real mode, or, from a guest of POWER9 that has its own interrupts taken with translation on
//! (LPCR\[AIL\] = 3), with translation on at [`RELOCATED`], through the tree of [`super::linear`]. Its stub is in both
//! places; both go by the one trampoline, which turns translation off and jumps into the image (`enter.S`).
#![expect(unsafe_code, reason = "writes the vectors into low memory, where the architecture wants them")]

use core::ops::Range;

use crate::boot::vectors::{install_trap, place};

unsafe extern "C" {
    fn trivet_guest_exit();
}

/// Where interrupts that keep translation on are taken, as an offset: the stubs' second place.
const RELOCATED: usize = 0x4000;
/// The trampoline: behind the vectors proper.
const TRAMPOLINE: usize = 0x1800;
/// The memory that is written here, and what is not used between.
pub const LOW: Range<u64> = 0..0x1_0000;

/// Vectors by which guests leave: external, hypervisor decrementer, hypercall, storage (data and instruction), emulation
/// assistance, maintenance, doorbell, virtualization, facility unavailable.
const EXIT: [usize; 10] = [0x500, 0x980, 0xc00, 0xe00, 0xe20, 0xe40, 0xe60, 0xe80, 0xea0, 0xf80];
/// Vectors that Trivet itself never takes, and guests take by themselves.
const TRAP: [usize; 14] =
    [0x100, 0x200, 0x300, 0x380, 0x400, 0x480, 0x600, 0x700, 0x800, 0x900, 0xd00, 0xf00, 0xf20, 0xf40];

/// `mtspr HSPRG1,13; mfspr 13,HSPRG0; std 12,216(13); li 12,vector; b trampoline`, for a stub at `vector + base`.
fn exit_stub(base: usize, vector: usize) -> [u32; 8] {
    let back = TRAMPOLINE.wrapping_sub(base + vector + 16) as u32 & 0x03ff_fffc;
    let nop = 0x6000_0000;
    [0x7db1_4ba6, 0x7db0_4aa6, 0xf98d_00d8, 0x3980_0000 | vector as u32, 0x4800_0000 | back, nop, nop, nop]
}

/// `std 11,224(13); mfctr 11; std 11,240(13); std 10,232(13); mfmsr 11; li 10,IR|DR; andc 11,11,10; mtmsrd 11`, and
/// `lis 11,handler@h; ori 11,11,handler@l; mtctr 11; clrldi 13,13,4; bctr`.
fn trampoline(handler: u32) -> [[u32; 8]; 2] {
    let nop = 0x6000_0000;
    [
        [0xf96d_00e0, 0x7d69_02a6, 0xf96d_00f0, 0xf94d_00e8, 0x7d60_00a6, 0x3940_0030, 0x7d6b_5078, 0x7d60_0164],
        [
            0x3d60_0000 | handler >> 16,
            0x616b_0000 | handler & 0xffff,
            0x7d69_03a6,
            0x79ad_0100,
            0x4e80_0420,
            nop,
            nop,
            nop,
        ],
    ]
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
