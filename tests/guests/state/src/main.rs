//! Keeps patterns in the registers that entering a guest does not switch, while a neighbour on the same CPU does the same
//! with others: on POWER floating point, vectors, VRSAVE, TAR, AMR, DSCR; on Arm vectors and what belongs to EL1; on x86
//! floating point, vectors, debug registers, and what system calls and segments begin with. Two VMs of it on one CPU, with
//! slices much shorter than a round, lose them at once if the hypervisor forgets one.
//!
//! Ends by power-off if nothing was ever lost, otherwise as an operating system that has failed.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: entry, registers")]

#[allow(dead_code, reason = "other guests', which need more of it")]
#[cfg_attr(target_arch = "powerpc64", path = "../../ppc64/machine.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../../arm64/machine.rs")]
#[cfg_attr(target_arch = "x86_64", path = "../../x86/machine.rs")]
mod machine;

use machine::{Tree, fail, now, power_off};

#[cfg(target_arch = "powerpc64")]
core::arch::global_asm!(include_str!("ppc64.S"), options(raw));
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(include_str!("arm64.S"), options(raw));
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(include_str!("x86.S"), options(raw));

unsafe extern "C" {
    fn __trivet_state_switch_fill(seed: u64);
    fn __trivet_state_switch_lost(seed: u64) -> u64;
}

/// How often the registers are filled and looked at.
const ROUNDS: u64 = 40;
/// Milliseconds of a round: four slices.
const ROUND: u64 = 20;

#[unsafe(no_mangle)]
extern "C" fn guest_main(tree: *const u8) -> ! {
    // SAFETY: the first argument.
    let tree = unsafe { Tree::new(tree) };
    let round = tree.ticks_per_second() / 1000 * ROUND;
    for _ in 0..ROUNDS {
        // No two guests read the same, so a neighbour's pattern is never taken for one's own.
        let seed = now();
        // SAFETY: this program is compiled to use none of these registers.
        unsafe { __trivet_state_switch_fill(seed) };
        while now().wrapping_sub(seed) < round {}
        // SAFETY: as above.
        let lost = unsafe { __trivet_state_switch_lost(seed) };
        if lost != 0 {
            fail(format_args!("{lost} registers were lost to a neighbour"));
        }
    }
    power_off()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"));
}
