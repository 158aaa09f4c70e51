//! Measures how long the console's interrupt takes, for `cargo xtask test`.
//!
//! Each round begins with a line `READY` and wants one character, `a` in the first, `b` in the second, and so on. A
//! round of the first kind holds interrupts off until the character has come and a while longer, turns them on, and
//! prints `LATENCY <microseconds>`: from before the instruction that turned them on to the interrupt's vector, by the
//! guest's own clock. A round of the second kind sleeps in H_CEDE. `DONE` is the last line; whatever is wrong ends the
//! guest as a failed operating system instead.
//!
//! With the command line `spin` it only takes a CPU's time.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: entry, hypercalls, interrupt vectors")]

mod machine;

use core::ops::Range;

use machine::{Call, SERVER, Tree, fail, must, power_off, say};

core::arch::global_asm!(
    include_str!("../../ppc64/start.S"),
    include_str!("../../ppc64/hypercall.S"),
    include_str!("entry.S"),
    options(raw)
);

unsafe extern "C" {
    fn spin_closed(ticks: u64);
    fn spin_open(ticks: u64) -> i64;
    fn cede() -> u64;
    fn publish_code(start: usize, end: usize);
    static vector_external: u8;
    static vector_external_end: u8;
    static vector_decrementer: u8;
    static vector_decrementer_end: u8;
    static vector_other: u8;
    static vector_other_end: u8;
}

/// Rounds with interrupts held off.
const CLOSED_ROUNDS: u8 = 5;
/// Rounds in H_CEDE.
const CEDED_ROUNDS: u8 = 2;
/// Interrupts are held off in stretches of so many milliseconds: several time slices.
const CLOSED_MS: u64 = 30;
/// An interrupt that has not come after so many milliseconds with interrupts on is lost.
const LOST_MS: u64 = 2000;
/// The priority that the console's interrupt is given.
const PRIORITY: u8 = 5;
/// H_CPPR's value that lets everything through.
const OPEN: u8 = 0xff;
const VTY: &str = "/vdevice/vty@71000000";
/// The interrupt number's part of what H_XIRR and H_IPOLL answer.
const NUMBER: u64 = 0xff_ffff;
/// Interrupt vectors, and the distance between two.
const VECTORS: Range<usize> = 0x100..0x1000;
const VECTOR_STEP: usize = 0x80;

/// The console's interrupt, as it is to be presented.
struct Line {
    source: u32,
    ticks_per_ms: u64,
}

#[unsafe(no_mangle)]
extern "C" fn guest_main(tree: *const u8) -> ! {
    install_vectors();
    // SAFETY: r3 at entry.
    let tree = unsafe { Tree::new(tree) };
    if tree.is_told("spin") {
        loop {
            core::hint::spin_loop();
        }
    }
    // Interrupts are to be taken in the byte order in which this program runs.
    must(Call::SetMode, [1, 4, 0, 0]);
    must(Call::Cppr, [OPEN.into(), 0, 0, 0]);
    let ticks_per_ms = u64::from(tree.timebase_hz()) / 1000;
    let line = Line { source: tree.number(VTY, "interrupts"), ticks_per_ms };
    let status = tree.rtas("ibm,set-xive", [line.source, SERVER, PRIORITY.into()]);
    if status != 0 {
        fail(format_args!("ibm,set-xive: status {status}"));
    }
    let keys = b'a'..;
    for key in keys.clone().take(CLOSED_ROUNDS.into()) {
        line.closed(key);
    }
    for key in keys.skip(CLOSED_ROUNDS.into()).take(CEDED_ROUNDS.into()) {
        line.ceded(key);
    }
    say(format_args!("DONE"));
    power_off()
}

impl Line {
    /// A round with interrupts off.
    fn closed(&self, key: u8) {
        say(format_args!("READY"));
        loop {
            // SAFETY: passes time.
            unsafe { spin_closed(CLOSED_MS * self.ticks_per_ms) };
            let [xirr, ..] = must(Call::Ipoll, [SERVER.into(), 0, 0, 0]);
            if xirr & NUMBER != 0 {
                break;
            }
        }
        // The poll has made the hypervisor look. From here on nothing does.
        // SAFETY: passes time.
        unsafe { spin_closed(CLOSED_MS * self.ticks_per_ms) };
        // SAFETY: the vectors are there.
        let Ok(ticks) = u64::try_from(unsafe { spin_open(LOST_MS * self.ticks_per_ms) }) else {
            fail(format_args!("{} waits, but was not taken in {LOST_MS} ms with interrupts on", char::from(key)));
        };
        self.take(key);
        say(format_args!("LATENCY {}", ticks * 1000 / self.ticks_per_ms));
    }

    /// A round in H_CEDE.
    fn ceded(&self, key: u8) {
        say(format_args!("READY"));
        // SAFETY: the vectors are there. H_CEDE may also end early, or for the decrementer.
        while unsafe { cede() } == 0 {}
        self.take(key);
    }

    /// Takes the interrupt and the character, and makes sure that there are no others.
    fn take(&self, key: u8) {
        let [xirr, ..] = must(Call::Xirr, [0; 4]);
        if xirr != u64::from(OPEN) << 24 | u64::from(self.source) {
            fail(format_args!("the interrupt accepted is {xirr:#x}, not {:#x} at priority {OPEN:#x}", self.source));
        }
        let [count, typed, _] = must(Call::GetTermChar, [0; 4]);
        if (count, typed) != (1, u64::from(key) << 56) {
            fail(format_args!("{count} characters {typed:#018x} in place of {}", char::from(key)));
        }
        must(Call::Eoi, [xirr, 0, 0, 0]);
        let [rest, ..] = must(Call::Ipoll, [SERVER.into(), 0, 0, 0]);
        if rest != u64::from(OPEN) << 24 {
            fail(format_args!("after the end of interrupt {rest:#x} is left"));
        }
    }
}

/// Copies the handlers to where the architecture wants them.
fn install_vectors() {
    let put = |at: usize, start: *const u8, end: *const u8| {
        let to = core::ptr::with_exposed_provenance_mut::<u8>(at);
        // SAFETY: memory below the program, which nothing else uses; each handler is shorter than the step.
        unsafe { core::ptr::copy_nonoverlapping(start, to, end.addr() - start.addr()) };
    };
    for at in VECTORS.step_by(VECTOR_STEP) {
        put(at, &raw const vector_other, &raw const vector_other_end);
    }
    put(0x500, &raw const vector_external, &raw const vector_external_end);
    put(0x900, &raw const vector_decrementer, &raw const vector_decrementer_end);
    // SAFETY: the range just written.
    unsafe { publish_code(VECTORS.start, VECTORS.end) };
}

/// An interrupt that this program has no use for.
#[unsafe(no_mangle)]
extern "C" fn unexpected(at: u64, vector: u64) -> ! {
    fail(format_args!("interrupt {:#x} at {at:#x}", vector & !0x7f));
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"));
}
