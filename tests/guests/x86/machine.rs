//! What a bare-metal guest finds around it on a PC: its beginning, the zero page, the console, time, a second vCPU, its two
//! ends. `ppc64/machine.rs` and `arm64/machine.rs` have the same for theirs, and a guest takes the one that it is built for;
//! what all offer has the same names.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, _rdtsc};
use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};

core::arch::global_asm!(include_str!("start.S"), options(raw));

/// Model-specific registers: EFER is the processor's, the others the local APIC's.
pub const APIC_BASE: u32 = 0x1b;
/// The interrupt command register of an x2APIC.
pub const ICR: u32 = 0x830;
/// In the base register: the APIC is on, by model-specific registers.
pub const X2APIC: u64 = 3 << 10;

/// Fields of the zero page (Linux: Documentation/arch/x86/zero-page.rst).
const CMDLINE: usize = 0x228;
const E820_ENTRIES: usize = 0x1e8;
const E820_TABLE: usize = 0x2d0;
const E820_ENTRY: usize = 20;

/// The leaf that tells the rate of the time-stamp counter, and the leaf that tells which there are.
const HYPERVISOR: u32 = 0x4000_0000;
const TIMING: u32 = 0x4000_0010;
/// Where processors tell it themselves.
const RATIO: u32 = 0x15;

/// Reads a model-specific register, which is there.
pub fn read_msr(msr: u32) -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reading one changes nothing; one that is not there ends the program.
    unsafe { asm!("rdmsr", in("ecx") msr, out("rax") low, out("rdx") high, options(nostack)) };
    high << 32 | low & 0xffff_ffff
}

/// Writes a model-specific register.
///
/// # Safety
/// With this value the program still is as it was compiled.
pub unsafe fn write_msr(msr: u32, value: u64) {
    // SAFETY: as promised.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack)) };
}

/// Loads from a device's register of 32 bits.
pub fn load(at: u64) -> u32 {
    let value;
    // SAFETY: a device's register, or nothing at all, which a guest may try.
    unsafe { asm!("mov {0:e}, [{1}]", out(reg) value, in(reg) at, options(nostack)) };
    value
}

/// Stores to a device's register of 32 bits.
pub fn store(at: u64, value: u32) {
    // SAFETY: as above; no device of a guest reaches its memory.
    unsafe { asm!("mov [{1}], {0:e}", in(reg) value, in(reg) at, options(nostack)) };
}

/// Reads a port of 8 bits.
pub fn input(port: u16) -> u8 {
    let value;
    // SAFETY: no device of a guest reaches its memory.
    unsafe { asm!("in al, dx", out("al") value, in("dx") port, options(nostack)) };
    value
}

/// Writes a port of 8 bits.
pub fn output(port: u16, value: u8) {
    // SAFETY: as above.
    unsafe { asm!("out dx, al", in("al") value, in("dx") port, options(nostack)) };
}

/// What the zero page tells.
pub struct Tree {
    page: *const u8,
}

impl Tree {
    /// The zero page at this address.
    ///
    /// # Safety
    /// What vCPU 0 was given in RSI.
    pub unsafe fn new(at: *const u8) -> Self {
        Self { page: at }
    }

    /// True if the command line has this word.
    pub fn is_told(&self, word: &str) -> bool {
        self.words().any(|told| told == word)
    }

    /// The number behind `key=` on the command line.
    pub fn told_number(&self, key: &str) -> Option<u64> {
        self.words().find_map(|told| told.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
    }

    fn words(&self) -> impl Iterator<Item = &'static str> {
        let at = core::ptr::with_exposed_provenance::<c_char>(self.field::<u32>(CMDLINE) as usize);
        // SAFETY: below 4 GiB, with a zero behind it; nobody writes it.
        unsafe { CStr::from_ptr(at) }.to_str().unwrap_or("").split(' ')
    }

    /// Where memory ends that begins at 0.
    pub fn memory(&self) -> u64 {
        let entries = 0..usize::from(self.field::<u8>(E820_ENTRIES));
        let ends =
            entries.map(|n| E820_TABLE + n * E820_ENTRY).map(|at| self.field::<u64>(at) + self.field::<u64>(at + 8));
        let below = ends.filter(|end| *end <= 3 << 30).max();
        below.unwrap_or_else(|| fail(format_args!("the zero page has no memory")))
    }

    fn field<T: Copy>(&self, at: usize) -> T {
        // SAFETY: within the page, which the loader has filled; a number of any bits.
        unsafe { self.page.add(at).cast::<T>().read_unaligned() }
    }

    /// Ticks of [`now`] in a second.
    pub fn ticks_per_second(&self) -> u64 {
        if __cpuid(HYPERVISOR).eax >= TIMING {
            let kilohertz = __cpuid(TIMING).eax;
            return u64::from(kilohertz) * 1000;
        }
        let ratio = __cpuid(RATIO);
        match u64::from(ratio.ecx) * u64::from(ratio.ebx) {
            0 => fail(format_args!("nobody tells the rate of the time-stamp counter")),
            product => product / u64::from(ratio.eax),
        }
    }

    /// Starts vCPU 1 at `entry`, in real mode: the first byte of a page below 1 MiB.
    pub fn start_second(&self, entry: *const u8) {
        /// To APIC 1: INIT, and start-up, with a page's number.
        const INIT: u64 = 1 << 32 | 0x4500;
        const START: u64 = 1 << 32 | 0x4600;
        unsafe extern "C" {
            static mut second_root: u64;
        }
        let root: u64;
        // SAFETY: the word is `second_start`'s, of which nobody runs yet; the messages go to vCPU 1 only.
        unsafe {
            asm!("mov {0}, cr3", out(reg) root, options(nomem, nostack));
            (&raw mut second_root).write_volatile(root);
            write_msr(APIC_BASE, read_msr(APIC_BASE) | X2APIC);
            write_msr(ICR, INIT);
            write_msr(ICR, START | entry.expose_provenance() as u64 >> 12);
        }
    }
}

/// The time-stamp counter.
pub fn now() -> u64 {
    // SAFETY: reads the counter, not before what precedes it.
    unsafe {
        asm!("lfence", options(nostack));
        _rdtsc()
    }
}

/// The console: COM1's data, and its line status: something to read, room to write.
const DATA: u16 = 0x3f8;
const STATUS: u16 = DATA + 5;
const READY: u8 = 1 << 0;
const ROOM: u8 = 1 << 5;

/// The console, a 16550 as it is after a reset.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while input(STATUS) & ROOM == 0 {}
            output(DATA, byte);
        }
        Ok(())
    }
}

/// Prints a line.
pub fn say(line: fmt::Arguments<'_>) {
    // The console has no errors.
    let _ = writeln!(Console, "{line}");
}

/// Whether something waits on the console.
pub fn waits() -> bool {
    input(STATUS) & READY != 0
}

/// What has been typed, if anything has.
pub fn typed() -> Option<u8> {
    waits().then(|| input(DATA))
}

/// Sleeps for ever: interrupts are off.
pub fn sleep() -> ! {
    loop {
        // SAFETY: passes time.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}

/// All is well: switches the machine off. ACPI's sleep control register, which takes the kind of sleep that is soft-off.
pub fn power_off() -> ! {
    const SLEEP_CONTROL: u16 = 0x600;
    const SOFT_OFF: u8 = 1 << 5 | 5 << 2;
    loop {
        output(SLEEP_CONTROL, SOFT_OFF);
    }
}

/// Something is wrong. A PC knows no operating system that has failed, so the line tells it, and whoever reads it.
pub fn fail(why: fmt::Arguments<'_>) -> ! {
    say(format_args!("GUEST FAILED: {why}"));
    power_off()
}
