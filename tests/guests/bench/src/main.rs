//! Counts the instructions of single exits, for `cargo xtask bench --board pseries`.
//!
//! It runs as an ordinary guest on the image that is shipped. Under deterministic counting the timebase advances with
//! the instructions that every layer executes, 512 ticks for 1000 of them, so what passes between two readings is the
//! path length from guest to guest. Each figure is the count less that of two readings with nothing in between.
//!
//! Results are lines on the console: `RESULT <name> n <count> min <x> med <x> mean <x> p99 <x> max <x>`, instructions.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: entry, hypercalls, stores to untouched memory")]

use core::fmt::{self, Write};

core::arch::global_asm!(include_str!("../../ppc64/start.S"), include_str!("entry.S"), options(raw));

unsafe extern "C" {
    fn hypercall(number: u64, a: u64, b: u64, c: u64, d: u64) -> i64;
    fn time_nothing() -> u64;
    fn time_hypercall(number: u64) -> u64;
    fn time_store(at: u64) -> u64;
    static __untouched: u8;
}

const H_PUT_TERM_CHAR: u64 = 0x58;
const H_RTAS: u64 = 0xf000;
/// Trivet's token for it, as in the tree's `/rtas`.
const RTAS_POWER_OFF: u32 = 0x2000;
/// A number that no personality gives a meaning: answered with H_FUNCTION.
const H_NOTHING: u64 = 0x3f_fffc;

const PAGE: u64 = 4096;
/// Events of each kind.
const EVENTS: usize = 2000;
/// Events of each kind that are not counted: caches of the emulator and of the hypervisor fill.
const WARM: usize = 48;

/// Pages that the loader has put into guest memory and the guest has never touched: present on the host side, without
/// a translation. Not zero, because the loader leaves zero pages out.
#[unsafe(link_section = ".present")]
#[used]
static PRESENT: [u8; (EVENTS + WARM) * PAGE as usize] = [1; (EVENTS + WARM) * PAGE as usize];

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.as_bytes().chunks(16) {
            let mut bytes = [0; 16];
            bytes[..part.len()].copy_from_slice(part);
            let all = u128::from_be_bytes(bytes);
            // SAFETY: the call reads registers only.
            unsafe { hypercall(H_PUT_TERM_CHAR, 0, part.len() as u64, (all >> 64) as u64, all as u64) };
        }
        Ok(())
    }
}

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
    // The console has no errors.
    let _ = writeln!(
        Console,
        "RESULT {name} n {EVENTS} min {} med {} mean {} p99 {} max {}",
        at(0),
        at(50),
        instructions(sum / EVENTS as u64),
        at(99),
        at(100)
    );
}

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let mut counts = [0; EVENTS];
    // SAFETY: reads the timebase.
    measure(&mut counts, |_| unsafe { time_nothing() });
    let overhead = counts[EVENTS / 2];

    // SAFETY: the hypervisor answers an unknown number and changes nothing.
    measure(&mut counts, |_| unsafe { time_hypercall(H_NOTHING) });
    report("hypercall", &counts, overhead);

    let present = (&raw const PRESENT).expose_provenance() as u64;
    // SAFETY: pages of PRESENT, which nothing reads.
    measure(&mut counts, |n| unsafe { time_store(present + n * PAGE) });
    report("fault-present", &counts, overhead);

    let untouched = (&raw const __untouched).expose_provenance() as u64;
    // SAFETY: memory behind everything that the linker placed.
    measure(&mut counts, |n| unsafe { time_store(untouched + n * PAGE) });
    report("fault-fresh", &counts, overhead);

    power_off()
}

fn power_off() -> ! {
    let block = [RTAS_POWER_OFF, 2, 1, 0, 0, 0].map(u32::to_be);
    loop {
        // SAFETY: the block is alive; the call does not return.
        unsafe { hypercall(H_RTAS, (&raw const block).expose_provenance() as u64, 0, 0, 0) };
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "guest-bench: {info}");
    power_off()
}
