//! What a bare-metal guest finds around it on POWER: its beginning, the device tree, hypervisor calls, firmware calls, the
//! console, time, its two ends. `arm64/machine.rs` has the same for Arm, and a guest takes the one that it is built for; what
//! both offer has the same names.

use core::fmt::{self, Write};

use dtoolkit::fdt::{Fdt, FdtProperty};
use dtoolkit::{Node, Property};

core::arch::global_asm!(include_str!("start.S"), include_str!("hypercall.S"), options(raw));

unsafe extern "C" {
    fn hypercall(number: u64, a: u64, b: u64, c: u64, d: u64, values: *mut [u64; 3]) -> i64;
}

/// Hypervisor calls, by PAPR's numbers.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Call {
    GetTermChar = 0x54,
    PutTermChar = 0x58,
    Eoi = 0x64,
    Cppr = 0x68,
    Ipoll = 0x70,
    Xirr = 0x74,
    /// Enables interrupts, and sleeps until one comes.
    Cede = 0xe0,
    SetMode = 0x31c,
    /// What the code behind `linux,rtas-entry` calls.
    Rtas = 0xf000,
    /// Of a guest that has guests: nested.rs.
    SetPartitionTable = 0xf800,
    EnterNested = 0xf804,
}

/// Makes a call: status, and the values in r4 to r6.
pub fn call(call: Call, args: [u64; 4]) -> (i64, [u64; 3]) {
    let mut values = [0; 3];
    let [a, b, c, d] = args;
    // SAFETY: the calls above change registers only, Rtas and EnterNested also the blocks that their caller owns.
    let status = unsafe { hypercall(call as u64, a, b, c, d, &raw mut values) };
    (status, values)
}

/// A call that must succeed.
pub fn must(what: Call, args: [u64; 4]) -> [u64; 3] {
    match call(what, args) {
        (0, values) => values,
        (status, _) => fail(format_args!("{what:?} {args:x?}: status {status}")),
    }
}

/// The vCPU's number as an interrupt server.
pub const SERVER: u32 = 0;

/// What the tree tells.
pub struct Tree {
    fdt: Fdt<'static>,
}

impl Tree {
    /// The tree at this address.
    ///
    /// # Safety
    /// What vCPU 0 was given in r3.
    pub unsafe fn new(at: *const u8) -> Self {
        // SAFETY: as promised; nobody writes it. It has names longer than the standard allows, so it is not checked.
        Self { fdt: unsafe { Fdt::from_raw_unchecked(at) } }
    }

    /// True if the command line has this word.
    pub fn is_told(&self, word: &str) -> bool {
        self.words().any(|told| told == word)
    }

    /// The number that the command line gives this key.
    pub fn told_number(&self, key: &str) -> Option<u64> {
        self.words().find_map(|told| told.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
    }

    fn words(&self) -> impl Iterator<Item = &'static str> {
        let words = self.property("/chosen", "bootargs").and_then(|found| found.value_as().ok());
        words.unwrap_or("").split(' ')
    }

    /// Where memory ends that begins at 0.
    pub fn memory(&self) -> u64 {
        let cells = self.property("/memory@0", "reg").and_then(|found| found.value().last_chunk().copied());
        cells.map_or_else(|| fail(format_args!("the tree has no memory")), u64::from_be_bytes)
    }

    /// Bytes of the hashed table, 0 if there is none.
    pub fn table_bytes(&self) -> u64 {
        let cpu = self.fdt.find_node("/cpus").and_then(|cpus| cpus.children().next());
        let cells: Option<[u8; 4]> = cpu.and_then(|cpu| cpu.property("ibm,pft-size")?.value().last_chunk().copied());
        cells.map_or(0, |log2| 1 << u32::from_be_bytes(log2))
    }

    /// A number of one cell; of several, the first.
    pub fn number(&self, path: &str, property: &str) -> u32 {
        match self.property(path, property).and_then(|found| found.value().first_chunk().copied()) {
            Some(cell) => u32::from_be_bytes(cell),
            None => fail(format_args!("{path} has no {property} in the tree")),
        }
    }

    /// Ticks of [`now`] in a second.
    pub fn ticks_per_second(&self) -> u64 {
        let cpu = self.fdt.find_node("/cpus").and_then(|cpus| cpus.children().next());
        let cell = cpu.and_then(|cpu| cpu.property("timebase-frequency")?.value().first_chunk().copied());
        let told = cell.map(u32::from_be_bytes);
        told.unwrap_or_else(|| fail(format_args!("the tree does not tell the timebase's frequency"))).into()
    }

    /// Starts vCPU 1 at `entry`.
    pub fn start_second(&self, entry: *const u8) {
        let status = self.rtas("start-cpu", [1, entry.expose_provenance() as u32, 0]);
        if status != 0 {
            fail(format_args!("start-cpu: status {status}"));
        }
    }

    fn property(&self, path: &str, property: &str) -> Option<FdtProperty<'static>> {
        self.fdt.find_node(path)?.property(property)
    }

    /// Makes the firmware call of this name; returns its status.
    pub fn rtas<const ARGS: usize>(&self, name: &str, args: [u32; ARGS]) -> i32 {
        rtas(self.number("/rtas", name), args)
    }
}

/// Makes the firmware call with this token.
fn rtas<const ARGS: usize>(token: u32, args: [u32; ARGS]) -> i32 {
    let mut block = [0_u32; 3 + 8];
    block[..3].copy_from_slice(&[token, ARGS as u32, 1].map(u32::to_be));
    for (cell, arg) in block[3..].iter_mut().zip(args) {
        *cell = arg.to_be();
    }
    let at = (&raw mut block).expose_provenance() as u64;
    must(Call::Rtas, [at, 0, 0, 0]);
    let status = (&raw const block[3 + ARGS]).cast::<u32>();
    // SAFETY: a cell of the block, which the hypervisor has written behind the compiler's back.
    u32::from_be(unsafe { status.read_volatile() }) as i32
}

/// The console.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.as_bytes().chunks(16) {
            let mut bytes = [0; 16];
            bytes[..part.len()].copy_from_slice(part);
            let all = u128::from_be_bytes(bytes);
            call(Call::PutTermChar, [0, part.len() as u64, (all >> 64) as u64, all as u64]);
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
    let [count, typed, _] = must(Call::GetTermChar, [0; 4]);
    (count > 0).then_some((typed >> 56) as u8)
}

/// The timebase.
pub fn now() -> u64 {
    let now: u64;
    // SAFETY: reads the timebase.
    unsafe { core::arch::asm!("mftb {0}", out(reg) now, options(nomem, nostack)) };
    now
}

/// Sleeps for ever: nothing wakes a vCPU that takes no interrupts and has no timer.
pub fn sleep() -> ! {
    loop {
        call(Call::Cede, [0; 4]);
    }
}

/// The tokens of the two ends are known without the tree, which may be what is wrong.
const RTAS_POWER_OFF: u32 = 0x2000;
const RTAS_OS_TERM: u32 = 0x2003;

/// All is well: switches the machine off.
pub fn power_off() -> ! {
    loop {
        rtas(RTAS_POWER_OFF, [0, 0]);
    }
}

/// Last words, cut to what fits, with a zero byte behind them.
struct Words {
    text: [u8; 128],
    len: usize,
}

impl Write for Words {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (to, from) in self.text[self.len..127].iter_mut().zip(text.bytes()) {
            *to = from;
            self.len += 1;
        }
        Ok(())
    }
}

/// Something is wrong: ends the VM as an operating system that has failed.
pub fn fail(why: fmt::Arguments<'_>) -> ! {
    say(why);
    let mut words = Words { text: [0; 128], len: 0 };
    // What does not fit is cut.
    let _ = words.write_fmt(why);
    loop {
        rtas(RTAS_OS_TERM, [(&raw const words.text).expose_provenance() as u32]);
    }
}
