//! Counts the instructions of single exits, for `cargo xtask bench --board pseries`.
//!
//! It runs as an ordinary guest on the image that is shipped. Under deterministic counting the timebase advances with
//! the instructions that every layer executes, 512 ticks for 1000 of them, so what passes between two readings is the
//! path length from guest to guest. Each figure is the count less that of two readings with nothing in between.
//!
//! The command line says what is counted: nothing for calls and faults, `logged` for the first store to a page whose VM
//! has its dirty log on, `swapped` for the first load from a page that the hypervisor has put away as one word.
//!
//! Results are lines on the console: `RESULT <name> n <count> min <x> med <x> mean <x> p99 <x> max <x>`, instructions.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: entry, hypercalls, stores to untouched memory")]

#[allow(dead_code, reason = "another guest's, which needs more of it")]
#[path = "../../console/src/machine.rs"]
mod machine;

use machine::{Tree, fail, power_off, say};

core::arch::global_asm!(
    include_str!("../../ppc64/start.S"),
    include_str!("../../ppc64/hypercall.S"),
    include_str!("entry.S"),
    options(raw)
);

unsafe extern "C" {
    fn time_nothing() -> u64;
    fn time_hypercall(number: u64) -> u64;
    fn time_store(at: u64) -> u64;
    fn time_load(at: u64) -> u64;
    static __untouched: u8;
}

/// A number that no personality gives a meaning: answered with H_FUNCTION.
const H_NOTHING: u64 = 0x3f_fffc;

const PAGE: u64 = 4096;
/// Events of each kind.
const EVENTS: usize = 2000;
/// Events of each kind that are not counted: caches of the emulator and of the hypervisor fill.
const WARM: usize = 48;

/// Pages that are put away as one word: 384 MiB, on a machine of 256 MiB.
const FILLED: u64 = (384 << 20) / PAGE;

/// Pages that the loader has put into guest memory and the guest has never touched: present on the host side, without
/// a translation. Not zero, because the loader leaves zero pages out.
#[unsafe(link_section = ".present")]
#[used]
static PRESENT: [u8; (EVENTS + WARM) * PAGE as usize] = [1; (EVENTS + WARM) * PAGE as usize];

/// Takes `EVENTS` counts of `event`, which is told how many came before.
fn measure(counts: &mut [u64; EVENTS], mut event: impl FnMut(u64) -> u64) {
    let mut n = 0;
    let mut next = || {
        n += 1;
        event(n - 1)
    };
    (0..WARM).for_each(|_| {
        next();
    });
    counts.iter_mut().for_each(|count| *count = next());
    counts.sort_unstable();
}

fn report(name: &str, counts: &[u64; EVENTS], overhead: u64) {
    let instructions = |ticks: u64| ticks.saturating_sub(overhead) * 1000 / 512;
    let sum: u64 = counts.iter().sum();
    let at = |part: usize| instructions(counts[(EVENTS * part / 100).min(EVENTS - 1)]);
    say(format_args!(
        "RESULT {name} n {EVENTS} min {} med {} mean {} p99 {} max {}",
        at(0),
        at(50),
        instructions(sum / EVENTS as u64),
        at(99),
        at(100)
    ));
}

#[unsafe(no_mangle)]
extern "C" fn guest_main(tree: *const u8) -> ! {
    // SAFETY: r3 at entry.
    let tree = unsafe { Tree::new(tree) };
    let mut counts = [0; EVENTS];
    // SAFETY: reads the timebase.
    measure(&mut counts, |_| unsafe { time_nothing() });
    let overhead = counts[EVENTS / 2];
    if tree.is_told("logged") {
        logged(&mut counts, overhead);
    } else if tree.is_told("swapped") {
        swapped(&mut counts, overhead);
    } else {
        calls_and_faults(&mut counts, overhead);
    }
    power_off()
}

fn calls_and_faults(counts: &mut [u64; EVENTS], overhead: u64) {
    // SAFETY: the hypervisor answers an unknown number and changes nothing.
    measure(counts, |_| unsafe { time_hypercall(H_NOTHING) });
    report("hypercall", counts, overhead);

    // SAFETY: pages of PRESENT, which nothing reads.
    measure(counts, |n| unsafe { time_store(present(n)) });
    report("fault-present", counts, overhead);

    // SAFETY: memory behind everything that the linker placed.
    measure(counts, |n| unsafe { time_store(untouched(n)) });
    report("fault-fresh", counts, overhead);
}

/// With the dirty log on a page that was read only may not be written yet.
fn logged(counts: &mut [u64; EVENTS], overhead: u64) {
    measure(counts, |n| {
        // SAFETY: pages of PRESENT, which nothing else uses.
        unsafe {
            time_load(present(n));
            time_store(present(n))
        }
    });
    report("dirty-log-write", counts, overhead);
}

/// Pages of one word each, more than the machine has frames; the first ones are not there any more.
fn swapped(counts: &mut [u64; EVENTS], overhead: u64) {
    for n in 0..FILLED {
        let page = core::ptr::with_exposed_provenance_mut::<u64>(untouched(n) as usize);
        for word in 0..PAGE as usize / 8 {
            // SAFETY: memory behind everything that the linker placed, and below the end of RAM.
            unsafe { page.add(word).write_volatile(n + 1) };
        }
    }
    // SAFETY: as above.
    measure(counts, |n| unsafe { time_load(untouched(n)) });
    report("swap-in", counts, overhead);
    for n in 0..FILLED {
        let page = core::ptr::with_exposed_provenance::<u64>(untouched(n) as usize);
        // SAFETY: as above.
        let word = unsafe { page.add(n as usize % (PAGE as usize / 8)).read_volatile() };
        if word != n + 1 {
            fail(format_args!("page {n} holds {word:#x}"));
        }
    }
}

fn present(n: u64) -> u64 {
    (&raw const PRESENT).expose_provenance() as u64 + n * PAGE
}

fn untouched(n: u64) -> u64 {
    (&raw const __untouched).expose_provenance() as u64 + n * PAGE
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    fail(format_args!("guest-bench: {info}"))
}
