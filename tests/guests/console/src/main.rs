//! Measures how long the console's interrupt takes, for `cargo xtask test`.
//!
//! Each round begins with a line `READY` and wants one character, `a` in the first, `b` in the second, and so on. A
//! round of the first kind holds interrupts off until the character has come and a while longer, turns them on, and
//! prints `LATENCY <microseconds>`: from before the instruction that turned them on to the interrupt's vector, by the
//! guest's own clock. A round of the second kind sleeps until the interrupt comes (H_CEDE, WFI, HLT). `DONE` is the last line;
//! whatever is wrong ends the guest as a failed operating system instead.
//!
//! With the command line `spin` it only takes a CPU's time.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: entry, hypercalls, interrupt vectors")]

#[cfg(target_arch = "x86_64")]
#[path = "../../x86/apic.rs"]
mod apic;
#[cfg(target_arch = "aarch64")]
mod arm64;
#[cfg(target_arch = "aarch64")]
#[path = "../../arm64/gic.rs"]
mod gic;
#[allow(dead_code, reason = "other guests', which need more of it")]
#[cfg_attr(target_arch = "powerpc64", path = "../../ppc64/machine.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../../arm64/machine.rs")]
#[cfg_attr(target_arch = "x86_64", path = "../../x86/machine.rs")]
mod machine;
#[cfg(target_arch = "powerpc64")]
mod ppc64;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
use arm64::Line;
use machine::{Tree, fail, power_off, say};
#[cfg(target_arch = "powerpc64")]
use ppc64::Line;
#[cfg(target_arch = "x86_64")]
use x86::Line;

/// Rounds with interrupts held off.
const CLOSED_ROUNDS: u8 = 5;
/// Rounds asleep.
const SLEPT_ROUNDS: u8 = 2;
/// Interrupts are held off in stretches of so many milliseconds: several time slices.
const CLOSED_MS: u64 = 30;
/// An interrupt that has not come after so many milliseconds with interrupts on is lost.
const LOST_MS: u64 = 2000;

#[unsafe(no_mangle)]
extern "C" fn guest_main(tree: *const u8) -> ! {
    // SAFETY: the first argument.
    let tree = unsafe { Tree::new(tree) };
    if tree.is_told("spin") {
        loop {
            core::hint::spin_loop();
        }
    }
    let ticks_per_ms = tree.ticks_per_second() / 1000;
    let line = Line::new(&tree);
    let keys = b'a'..;
    for key in keys.clone().take(CLOSED_ROUNDS.into()) {
        closed(&line, key, ticks_per_ms);
    }
    for key in keys.skip(CLOSED_ROUNDS.into()).take(SLEPT_ROUNDS.into()) {
        say(format_args!("READY"));
        line.sleep();
        line.take(key);
    }
    say(format_args!("DONE"));
    power_off()
}

/// A round with interrupts off.
fn closed(line: &Line, key: u8, ticks_per_ms: u64) {
    say(format_args!("READY"));
    loop {
        Line::spin(CLOSED_MS * ticks_per_ms);
        if line.waits() {
            break;
        }
    }
    // The question has made the hypervisor look. From here on nothing does.
    Line::spin(CLOSED_MS * ticks_per_ms);
    let Some(ticks) = line.open(LOST_MS * ticks_per_ms) else {
        fail(format_args!("{} waits, but was not taken in {LOST_MS} ms with interrupts on", char::from(key)));
    };
    line.take(key);
    say(format_args!("LATENCY {}", ticks * 1000 / ticks_per_ms));
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"));
}
