//! Writes garbage to every interface that a guest has, for `cargo xtask test`: a hostile guest beside an honest one.
//!
//! Both vCPUs do random steps, of which each architecture's module tells. Interrupts stay masked and exceptions are skipped,
//! so it always comes to its end. What it draws follows from `seed=` on the command line, how much from `rounds=`. In the end
//! vCPU 0 says `FUZZ seed <n> rounds <n> refused <n>`, and switches the VM off.
#![no_std]
#![no_main]
#![cfg(any(target_arch = "aarch64", target_arch = "powerpc64", target_arch = "x86_64"))]
#![expect(unsafe_code, reason = "bare metal: entry, raw accesses to anything")]

#[cfg(target_arch = "aarch64")]
mod arm64;
#[allow(dead_code, reason = "other guests', which need more of it")]
#[cfg_attr(target_arch = "aarch64", path = "../../arm64/machine.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "../../ppc64/machine.rs")]
#[cfg_attr(target_arch = "x86_64", path = "../../x86/machine.rs")]
mod machine;
#[cfg(target_arch = "powerpc64")]
mod ppc64;
mod random;
#[cfg(target_arch = "x86_64")]
mod x86;

use machine::fail;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"));
}
