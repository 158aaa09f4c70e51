//! What a bare-metal guest finds around it on Arm: its beginning, the device tree, PSCI, the console, time, its two ends.
//! `ppc64/machine.rs` has the same for POWER, and a guest takes the one that it is built for; what both offer has the same
//! names.

use core::arch::asm;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use dtoolkit::fdt::{Fdt, FdtNode, FdtProperty};
use dtoolkit::{Node, Property};

core::arch::global_asm!(include_str!("start.S"), options(raw));

/// Function identifiers of PSCI (DEN 0022).
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Call {
    SystemOff = 0x8400_0008,
    CpuOn = 0xc400_0003,
}

/// Makes a call of the SMC calling convention (DEN 0028) by HVC; what x0 says afterwards.
pub fn call(function: u64, [a, b, c]: [u64; 3]) -> i64 {
    let status;
    // SAFETY: the callee may change x0 to x17 and the memory that it is told of; who starts a vCPU gives it memory of its own.
    unsafe {
        asm!("hvc #0", inout("x0") function => status, inout("x1") a => _, inout("x2") b => _, inout("x3") c => _,
            clobber_abi("C"), options(nostack));
    }
    status
}

/// Loads from a device's register of 32 bits, with an instruction whose syndrome says all of it.
pub fn load(at: u64) -> u32 {
    let value;
    // SAFETY: a device's register, or nothing at all, which a guest may try.
    unsafe { asm!("ldr {0:w}, [{1}]", out(reg) value, in(reg) at, options(nostack)) };
    value
}

/// Stores to a device's register of 32 bits.
pub fn store(at: u64, value: u32) {
    // SAFETY: as above; no device of a guest reaches its memory.
    unsafe { asm!("str {0:w}, [{1}]", in(reg) value, in(reg) at, options(nostack)) };
}

/// What the tree tells.
pub struct Tree {
    fdt: Fdt<'static>,
}

impl Tree {
    /// The tree at this address. From here on there is a console.
    ///
    /// # Safety
    /// What vCPU 0 was given in x0.
    pub unsafe fn new(at: *const u8) -> Self {
        // SAFETY: as promised; nobody writes it.
        let tree = Self { fdt: unsafe { Fdt::from_raw_unchecked(at) } };
        let [registers, ..] = tree.device("arm,pl011");
        UART.store(registers, Ordering::Relaxed);
        tree
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
        let words = self.fdt.find_node("/chosen").and_then(|chosen| chosen.property("bootargs")?.value_as().ok());
        words.unwrap_or("").split(' ')
    }

    /// Where the registers of the device that is compatible with this are: the first two regions, 0 where there is none.
    pub fn device(&self, compatible: &str) -> [u64; 2] {
        let node = self.node(compatible);
        let mut regions = node.reg().ok().flatten().into_iter().flatten().map(|region| region.address().unwrap_or(0));
        core::array::from_fn(|_| regions.next().unwrap_or(0))
    }

    /// Where memory ends, which begins at 0.
    pub fn memory(&self) -> u64 {
        let is = |node: &FdtNode<'static>| node.name_without_address() == "memory";
        let found = self.fdt.root().children().find(is).and_then(|node| node.reg().ok()??.next()?.size().ok());
        found.unwrap_or_else(|| fail(format_args!("the tree has no memory")))
    }

    /// The INTID of a device's interrupt, an SPI (type 0).
    pub fn spi(&self, compatible: &str) -> u32 {
        let cells: Option<FdtProperty<'_>> = self.node(compatible).property("interrupts");
        let cell = |n: usize| cells.and_then(|cells| cells.value().get(4 * n..)?.first_chunk().copied());
        match (cell(0).map(u32::from_be_bytes), cell(1).map(u32::from_be_bytes)) {
            (Some(0), Some(number)) => 32 + number,
            _ => fail(format_args!("{compatible} has no shared interrupt in the tree")),
        }
    }

    fn node(&self, compatible: &str) -> FdtNode<'static> {
        let is = |node: &FdtNode<'static>| node.compatible().is_some_and(|mut names| names.any(|n| n == compatible));
        let found = self.fdt.root().children().find(is);
        found.unwrap_or_else(|| fail(format_args!("the tree has no {compatible}")))
    }

    /// Ticks of [`now`] in a second.
    pub fn ticks_per_second(&self) -> u64 {
        let frequency;
        // SAFETY: reads what firmware has put there.
        unsafe { asm!("mrs {0}, cntfrq_el0", out(reg) frequency, options(nomem, nostack)) };
        frequency
    }

    /// Starts vCPU 1 at `entry`.
    pub fn start_second(&self, entry: *const u8) {
        let status = call(Call::CpuOn as u64, [1, entry.expose_provenance() as u64, 0]);
        if status != 0 {
            fail(format_args!("CPU_ON: status {status}"));
        }
    }
}

/// The virtual counter.
pub fn now() -> u64 {
    let now: u64;
    // SAFETY: reads the counter, not before what precedes it.
    unsafe { asm!("isb", "mrs {0}, cntvct_el0", out(reg) now, options(nostack)) };
    now
}

/// The console's registers, once they are known.
static UART: AtomicU64 = AtomicU64::new(0);
/// Data, and flags: nothing to read, no room to write.
const DATA: u64 = 0x00;
const FLAGS: u64 = 0x18;
const EMPTY: u32 = 1 << 4;
const FULL: u32 = 1 << 5;

/// The console, a PL011 as it is after a reset.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let uart = UART.load(Ordering::Relaxed);
        for byte in text.bytes().filter(|_| uart != 0) {
            while load(uart + FLAGS) & FULL != 0 {}
            store(uart + DATA, byte.into());
        }
        Ok(())
    }
}

/// Prints a line.
pub fn say(line: fmt::Arguments<'_>) {
    // The console has no errors.
    let _ = writeln!(Console, "{line}");
}

/// What has been typed, if anything has.
pub fn typed() -> Option<u8> {
    let uart = UART.load(Ordering::Relaxed);
    (load(uart + FLAGS) & EMPTY == 0).then(|| load(uart + DATA) as u8)
}

/// Sleeps for ever: nothing wakes a vCPU to which no interrupt is enabled.
pub fn sleep() -> ! {
    loop {
        // SAFETY: passes time.
        unsafe { asm!("wfi", options(nomem, nostack)) };
    }
}

/// All is well: switches the machine off.
pub fn power_off() -> ! {
    loop {
        call(Call::SystemOff as u64, [0; 3]);
    }
}

/// Something is wrong. PSCI knows no operating system that has failed, so the line tells it, and whoever reads it.
pub fn fail(why: fmt::Arguments<'_>) -> ! {
    say(format_args!("GUEST FAILED: {why}"));
    power_off()
}
