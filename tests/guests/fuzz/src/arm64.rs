//! Garbage on Arm. Both vCPUs do random steps: accesses of every width and kind to the distributor, the redistributors, the
//! UART, the rest of the devices' window and memory that is not there; calls of PSCI and of anything else, by HVC and SMC;
//! system registers of any encoding read, and those of the interrupt controller, the timers and the performance counters
//! written.
//!
//! In the end vCPU 1 runs from a place where there is nothing.

mod draw;

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::machine::{Call, Tree, call, fail, now, store};
use crate::random::Random;

core::arch::global_asm!(include_str!("arm64/entry.S"), include_str!("../../arm64/second.S"), options(raw));

unsafe extern "C" {
    static vectors: u8;
    static second_start: u8;
    #[link_name = "__trivet_state_switch_accesses"]
    static accesses: u8;
    static accesses_end: u8;
    static calls: u8;
    static calls_end: u8;
    static refused: [AtomicU64; 2];
    fn one(value: u64, address: u64, third: u64, fourth: u64, what: *const u8) -> u64;
    fn publish(instruction: *const u32);
}

/// Devices are from here up, memory below.
const DEVICES: u64 = 1 << 39;
/// Bytes of the distributor, of a redistributor's two frames, of the UART.
const GICD: u64 = 0x1_0000;
const GICR: u64 = 0x2_0000;
const UART: u64 = 0x1000;
/// CPU_ON, and how a vCPU switches itself off.
const CPU_ON: u64 = Call::CpuOn as u64;
const CPU_OFF: u64 = 0x8400_0002;
/// PSCI's functions that end the VM, or let the caller sleep, by their lowest bits: CPU_SUSPEND, CPU_OFF, SYSTEM_OFF,
/// SYSTEM_RESET, CPU_DEFAULT_SUSPEND, SYSTEM_SUSPEND, SYSTEM_RESET2. What is drawn is never one of them.
const ENDS: u32 = 1 << 1 | 1 << 2 | 1 << 8 | 1 << 9 | 1 << 0xc | 1 << 0xe | 1 << 0x12;

/// What both vCPUs know.
pub struct Target {
    distributor: u64,
    redistributors: u64,
    uart: u64,
    memory: u64,
}

/// An instruction that was drawn, and a return behind it, for each vCPU.
static mut DRAWN: [[u32; 2]; 2] = [[0, RET]; 2];
const RET: u32 = 0xd65f_03c0;

/// vCPU 1 switches itself off.
pub fn stop() -> ! {
    loop {
        call(CPU_OFF, [0; 3]);
    }
}

/// Has vCPU 1 begin there; what PSCI says.
fn start_at(entry: u64) -> i64 {
    call(CPU_ON, [1, entry, 0])
}

impl Target {
    /// What the tree says.
    pub fn new(tree: &Tree) -> Self {
        let [distributor, redistributors] = tree.device("arm,gic-v3");
        let [uart, _] = tree.device("arm,pl011");
        let memory = tree.memory();
        if distributor < DEVICES || redistributors < DEVICES || uart < DEVICES || memory > DEVICES {
            fail(format_args!("the tree has devices where memory should be"));
        }
        Self { distributor, redistributors, uart, memory }
    }

    /// Before vCPU 0's first step.
    pub fn begin(&self, told: &Tree) {
        told.start_second(&raw const second_start);
        self.ready();
    }

    /// Before a vCPU's first step.
    pub fn ready(&self) {
        // SAFETY: code that stays where it is.
        unsafe { asm!("msr vbar_el1, {0}", "isb", in(reg) &raw const vectors, options(nostack)) };
    }

    /// Begins another life of vCPU 1; what PSCI says.
    pub fn start_second(&self) -> i64 {
        start_at((&raw const second_start).expose_provenance() as u64)
    }

    /// After vCPU 0's last step. How many accesses were refused.
    pub fn end(&self, told: &Tree, random: &mut Random) -> u64 {
        while self.start_second() != 0 {}
        // The last thing that vCPU 1 does is to switch itself off, once more.
        let until = now() + told.ticks_per_second() / 50;
        let nothing = self.memory / 2 + random.below(self.memory / 2);
        while now() < until && start_at(nothing) != 0 {}
        while now() < until {}
        self.quiet_console();
        // SAFETY: words that only the vectors write.
        unsafe { refused.iter().map(|count| count.load(Ordering::Relaxed)).sum() }
    }

    /// One thing of many.
    pub fn step(&self, random: &mut Random, vcpu: usize) {
        match random.below(16) {
            0..8 => {
                let address = self.address(random);
                // SAFETY: accesses that cannot reach what this program has in memory.
                unsafe {
                    one(
                        random.value(),
                        address,
                        random.next(),
                        0,
                        pick(random, &raw const accesses, &raw const accesses_end),
                    )
                };
            }
            8 | 9 => {
                let function = function(random);
                let (entry, mut args) = (
                    (&raw const second_start).expose_provenance() as u64,
                    [random.value(), random.value(), random.value()],
                );
                // Where a vCPU starts has to be a place where it is known what it does.
                if function & 0xffff_ffff & !(1 << 30) == CPU_ON & !(1 << 30) {
                    args[1] = entry;
                }
                // SAFETY: what is called does not end this vCPU, or let another run through this program's memory.
                unsafe {
                    one(function, args[0], args[1], args[2], pick(random, &raw const calls, &raw const calls_end))
                };
            }
            10 | 11 => {
                execute(vcpu, draw::read(random), 0);
            }
            12..15 => {
                execute(vcpu, draw::write(random), random.value());
            }
            _ => {
                // Operations on caches and translations, all of them with an address that is a device's.
                execute(vcpu, draw::operation(random), self.address(random) | DEVICES);
            }
        }
    }

    /// Somewhere outside of memory.
    fn address(&self, random: &mut Random) -> u64 {
        let register = |random: &mut Random, bytes: u64| {
            let offset = random.below(bytes);
            // Mostly where a register could be.
            if random.one_in(8) { offset } else { offset & !3 }
        };
        match random.below(16) {
            0..5 => self.distributor + register(random, GICD),
            5..10 => self.redistributors + register(random, 3 * GICR),
            10..13 => self.uart + register(random, UART),
            13 => DEVICES + random.below(1 << 34),
            14 => DEVICES + random.below(DEVICES),
            _ => self.memory + random.below(DEVICES - self.memory),
        }
    }

    /// The UART as it was before.
    fn quiet_console(&self) {
        for (register, value) in [(0x38, 0), (0x44, 0x7ff), (0x2c, 0x70), (0x30, 0x301)] {
            store(self.uart + register, value);
        }
    }
}

/// A function's identifier: one of PSCI's, or of the calling convention's own, or anything.
fn function(random: &mut Random) -> u64 {
    loop {
        let drawn = match random.below(4) {
            0 | 1 => 0x8400_0000 | random.below(0x20) | random.below(2) << 30,
            2 => 0x8000_0000 | random.below(4) | random.below(2) << 30,
            _ => random.value(),
        };
        let low = drawn as u32;
        let psci = low & !(1 << 30) & !0x1f == 0x8400_0000;
        if !psci || ENDS >> (low & 0x1f) & 1 == 0 {
            return drawn;
        }
    }
}

/// One of the instructions between two places.
fn pick(random: &mut Random, begin: *const u8, end: *const u8) -> *const u8 {
    let count = (end.addr() - begin.addr()) as u64 / 8;
    begin.wrapping_add(8 * random.below(count) as usize)
}

/// Executes an instruction that has its operand in x0.
fn execute(vcpu: usize, instruction: u32, value: u64) {
    // SAFETY: each vCPU has its own place; the instruction reads or writes a register, or works on an address outside of
    // memory.
    unsafe {
        let at = (&raw mut DRAWN[vcpu]).cast::<u32>();
        at.write_volatile(instruction);
        publish(at);
        one(value, 0, 0, 0, at.cast());
    }
}
