//! Writes garbage to every interface that a guest has, for `cargo xtask test`: a hostile guest beside an honest one.
//!
//! Both vCPUs do random steps, of which each architecture's module tells; vCPU 1 also stops now and then, and vCPU 0 starts it
//! again. Interrupts stay masked and exceptions are skipped, so it always comes to its end. What it draws follows from `seed=` on
//! the command line, how much from `rounds=`. In the end vCPU 0 says `FUZZ seed <n> rounds <n> refused <n>`, and switches the VM
//! off.
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

use core::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_arch = "aarch64")]
use arm64::{Target, stop};
use machine::{Tree, fail, power_off, say};
#[cfg(target_arch = "powerpc64")]
use ppc64::{Target, stop};
use random::Random;
#[cfg(target_arch = "x86_64")]
use x86::{Target, stop};

/// What vCPU 1's next life draws from.
static SEED: AtomicU64 = AtomicU64::new(0);
/// Where the tree is, for vCPU 1.
static TREE: AtomicU64 = AtomicU64::new(0);
/// vCPU 0 has enough.
static OVER: AtomicU64 = AtomicU64::new(0);

/// vCPU 0.
#[unsafe(no_mangle)]
extern "C" fn guest_main(tree: *const u8) -> ! {
    // SAFETY: the first argument.
    let told = unsafe { Tree::new(tree) };
    let (seed, rounds) = (told.told_number("seed").unwrap_or(1), told.told_number("rounds").unwrap_or(1000));
    SEED.store(seed ^ 0x5eed_5eed_5eed_5eed, Ordering::Relaxed);
    TREE.store(tree.expose_provenance() as u64, Ordering::Relaxed);
    say(format_args!("FUZZ begins"));
    let target = Target::new(&told);
    target.begin(&told);
    let mut random = Random::new(seed);
    for _ in 0..rounds {
        target.step(&mut random, 0);
        // It may have stopped.
        if random.one_in(64) {
            target.start_second();
        }
    }
    OVER.store(1, Ordering::Release);
    let refused = target.end(&told, &mut random);
    say(format_args!("\nFUZZ seed {seed} rounds {rounds} refused {refused}"));
    power_off()
}

/// A life of vCPU 1.
#[unsafe(no_mangle)]
extern "C" fn second_main() -> ! {
    // SAFETY: what vCPU 0 was given.
    let told = unsafe { Tree::new(core::ptr::with_exposed_provenance(TREE.load(Ordering::Relaxed) as usize)) };
    let target = Target::new(&told);
    target.ready();
    let mut random = Random::new(SEED.load(Ordering::Relaxed));
    while OVER.load(Ordering::Acquire) == 0 && !random.one_in(4096) {
        target.step(&mut random, 1);
        // It may be stopped at any time: the next life goes on from here.
        SEED.store(random.next(), Ordering::Relaxed);
    }
    stop()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"));
}
