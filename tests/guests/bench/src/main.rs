//! Counts the instructions of single exits, for `cargo xtask bench`.
//!
//! It runs as an ordinary guest on the image that is shipped. Under deterministic counting the machine's counter advances
//! with the instructions that every layer executes, so what passes between two readings is the path length from guest to
//! guest: at the rate that the machine tells, a tick is 1.95 of them on POWER, and one on Arm and x86. Each figure is the
//! count less that of two readings with nothing in between.
//!
//! The command line says what is counted: nothing for calls and faults, `logged` for the first store to a page whose VM
//! has its dirty log on, `swapped` for the first load from a page that the hypervisor has put away as one word, `hashed` for calls
//! on a hashed table, `nested` for faults and calls of a guest of this guest; both of these only POWER has. With `watched` it waits
//! for a key between the parts of the latter, so that exits can be counted from outside.
//!
//! Results are lines on the console: `RESULT <name> n <count> min <x> med <x> mean <x> p99 <x> max <x>`, instructions.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: entry, hypercalls, stores to untouched memory")]

#[cfg(target_arch = "x86_64")]
#[allow(dead_code, reason = "other guests', which need more of it")]
#[path = "../../x86/apic.rs"]
mod apic;
#[cfg(target_arch = "aarch64")]
mod arm64;
#[cfg(target_arch = "aarch64")]
#[allow(dead_code, reason = "other guests', which need more of it")]
#[path = "../../arm64/gic.rs"]
mod gic;
#[allow(dead_code, reason = "other guests', which need more of it")]
#[cfg_attr(target_arch = "powerpc64", path = "../../ppc64/machine.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../../arm64/machine.rs")]
#[cfg_attr(target_arch = "x86_64", path = "../../x86/machine.rs")]
mod machine;
#[cfg(target_arch = "powerpc64")]
#[path = "../../ppc64/nested.rs"]
mod nested;
#[cfg(target_arch = "powerpc64")]
mod ppc64;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
use arm64 as own;
use machine::{Tree, fail, power_off, say};
#[cfg(target_arch = "powerpc64")]
use ppc64 as own;
#[cfg(target_arch = "x86_64")]
use x86 as own;

unsafe extern "C" {
    fn time_nothing() -> u64;
    fn time_hypercall(number: u64) -> u64;
    fn time_store(at: u64) -> u64;
    fn time_load(at: u64) -> u64;
    static __untouched: u8;
}

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

/// Ticks, one count an event.
type Counts = [u64; EVENTS];

/// What ticks are worth.
struct Scale {
    /// Instructions of so many ticks: nanoseconds of so many.
    ticks: u64,
    /// Ticks of an event that is nothing.
    overhead: u64,
}

/// Takes `EVENTS` counts of `event`, which is told how many came before.
fn measure(counts: &mut Counts, mut event: impl FnMut(u64) -> u64) {
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

impl Scale {
    /// Counts of nothing give the overhead.
    fn new(tree: &Tree, counts: &mut Counts) -> Self {
        // SAFETY: reads the counter.
        measure(counts, |_| unsafe { time_nothing() });
        Self { ticks: tree.ticks_per_second() / 1_000_000, overhead: counts[EVENTS / 2] }
    }

    fn instructions(&self, ticks: u64) -> u64 {
        ticks * 1000 / self.ticks
    }

    fn report(&self, name: &str, counts: &Counts) {
        let sum: u64 = counts.iter().sum();
        let of = |ticks: u64| self.instructions(ticks.saturating_sub(self.overhead));
        let at = |part: usize| of(counts[(EVENTS * part / 100).min(EVENTS - 1)]);
        say(format_args!(
            "RESULT {name} n {EVENTS} min {} med {} mean {} p99 {} max {}",
            at(0),
            at(50),
            of(sum / EVENTS as u64),
            at(99),
            at(100)
        ));
    }
}

#[unsafe(no_mangle)]
extern "C" fn guest_main(tree: *const u8, first: u64) -> ! {
    // SAFETY: the first argument.
    let tree = unsafe { Tree::new(tree) };
    let mut counts = [0; EVENTS];
    let scale = Scale::new(&tree, &mut counts);
    if tree.is_told("logged") {
        logged(&mut counts, &scale);
    } else if tree.is_told("swapped") {
        swapped(&mut counts, &scale);
    } else if tree.is_told("hashed") {
        #[cfg(target_arch = "powerpc64")]
        own::hashed(&mut counts, &scale);
    } else if tree.is_told("nested") {
        #[cfg(target_arch = "powerpc64")]
        own::nested(&tree, &mut counts, &scale);
    } else {
        // Since the machine was switched on, when its counter was 0.
        let boot = scale.instructions(first);
        say(format_args!("RESULT boot n 1 min {boot} med {boot} mean {boot} p99 {boot} max {boot}"));
        calls_and_faults(&mut counts, &scale);
        own::more(&tree, &mut counts, &scale);
    }
    power_off()
}

fn calls_and_faults(counts: &mut Counts, scale: &Scale) {
    // SAFETY: the hypervisor answers an unknown number and changes nothing.
    measure(counts, |_| unsafe { time_hypercall(own::NOTHING) });
    scale.report("hypercall", counts);

    // SAFETY: pages of PRESENT, which nothing reads.
    measure(counts, |n| unsafe { time_store(present(n)) });
    scale.report("fault-present", counts);

    // SAFETY: memory behind everything that the linker placed.
    measure(counts, |n| unsafe { time_store(untouched(n)) });
    scale.report("fault-fresh", counts);
}

/// With the dirty log on a page that was read only may not be written yet.
fn logged(counts: &mut Counts, scale: &Scale) {
    measure(counts, |n| {
        // SAFETY: pages of PRESENT, which nothing else uses.
        unsafe {
            time_load(present(n));
            time_store(present(n))
        }
    });
    scale.report("dirty-log-write", counts);
}

/// Pages of one word each, more than the machine has frames; the first ones are not there any more.
fn swapped(counts: &mut Counts, scale: &Scale) {
    for n in 0..FILLED {
        let page = core::ptr::with_exposed_provenance_mut::<u64>(untouched(n) as usize);
        for word in 0..PAGE as usize / 8 {
            // SAFETY: memory behind everything that the linker placed, and below the end of RAM.
            unsafe { page.add(word).write_volatile(n + 1) };
        }
    }
    // SAFETY: as above.
    measure(counts, |n| unsafe { time_load(untouched(n)) });
    scale.report("swap-in", counts);
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
