//! Garbage on x86. Both vCPUs do random steps: accesses of every kind to the local APIC, the I/O APIC, the rest of the hole
//! below 4 GiB and memory that is not there; ports; model-specific registers; CPUID leaves, hypercalls, instructions of
//! either vendor's extension and of system software. Messages to the other vCPU, INIT and start-up among them, come from
//! vCPU 0 now and then; the local APICs also change what they are.
//!
//! A vCPU that is sent INIT waits for a start-up message for ever, one that is started runs what it finds, and one that is sent
//! an NMI before it has its vectors ends the VM. So what could be such a message by accident is never drawn.

mod draw;

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

pub use crate::machine::sleep as stop;
use crate::machine::{APIC_BASE, ICR, Tree, X2APIC, output};
use crate::random::Random;

core::arch::global_asm!(include_str!("x86/entry.S"), include_str!("../../x86/second.S"), options(raw));

unsafe extern "C" {
    static vectors: [[u8; 16]; 32];
    static second_start: u8;
    #[link_name = "__trivet_state_switch_accesses"]
    static accesses: u8;
    static accesses_end: u8;
    static plain: u8;
    static plain_end: u8;
    static privileged: u8;
    static privileged_end: u8;
    static inputs: u8;
    static inputs_end: u8;
    static outputs: u8;
    static outputs_end: u8;
    static write_any_msr: u8;
    static go_there: u8;
    static mut second_root: u64;
    static refused: AtomicU64;
    fn one(value: u64, address: u64, third: u64, fourth: u64, what: *const u8) -> u64;
}

/// INIT and start-up, to APIC 1.
const INIT: u64 = 1 << 32 | 0x4500;
const START: u64 = 1 << 32 | 0x4600;
/// Both vCPUs' code segment.
const CODE: u64 = 0x10;
/// The boot processor's local APIC, off.
const BOOT_BASE: u64 = 0xfee0_0100;
/// COM1.
const UART: u16 = 0x3f8;
/// Page table entries: present, writable, a leaf of 1 GiB; and how many there are in a table.
const LEAF: u64 = 1 << 7 | 0b11;
const ENTRIES: u64 = 512;

/// What string instructions may write over, for each vCPU.
static mut SCRATCH: [[u8; 256]; 2] = [[0; 256]; 2];
/// The interrupt descriptor table.
static mut GATES: [[u64; 2]; 32] = [[0; 2]; 32];

/// What both vCPUs know: bytes of memory.
pub struct Target {
    memory: u64,
}

impl Target {
    /// What the tree says.
    pub fn new(tree: &Tree) -> Self {
        Self { memory: tree.memory() }
    }

    /// Before vCPU 0's first step.
    pub fn begin(&self, _: &Tree) {
        reach_everything();
        make_gates();
        self.ready();
        self.start_second();
    }

    /// Before a vCPU's first step.
    pub fn ready(&self) {
        let base = (&raw const GATES).expose_provenance() as u64;
        let register = [base << 16 | (size_of::<[[u64; 2]; 32]>() as u64 - 1), base >> 48];
        // SAFETY: the table is filled; ten bytes are read.
        unsafe { asm!("lidt [{0}]", in(reg) &raw const register, options(readonly, nostack)) };
    }

    /// Begins another life of vCPU 1.
    pub fn start_second(&self) {
        let entry = (&raw const second_start).expose_provenance() as u64;
        // From whatever it was: off, as memory, by registers.
        for mode in [0, 1 << 11, X2APIC] {
            write_msr(APIC_BASE, BOOT_BASE | mode);
        }
        write_msr(ICR, INIT);
        write_msr(ICR, START | entry >> 12);
    }

    /// After vCPU 0's last step. How many accesses were refused.
    pub fn end(&self, _: &Tree, _: &mut Random) -> u64 {
        self.start_second();
        // The console as it was before.
        for (register, value) in [(3, 3), (1, 0), (2, 7), (4, 0)] {
            output(UART + register, value);
        }
        // SAFETY: a word that only the vectors write.
        unsafe { refused.load(Ordering::Relaxed) }
    }

    /// One thing of many.
    pub fn step(&self, random: &mut Random, vcpu: usize) {
        // SAFETY: in all of these the instruction reaches no memory of this program's but the vCPU's scratch, and changes no
        // register that the program needs; an exception returns here.
        let call = |value, address, third, fourth, what| unsafe { one(value, address, third, fourth, what) };
        match random.below(16) {
            0..6 => {
                let (address, value) = (draw::address(random, self.memory), random.value());
                if draw::is_command(address) {
                    call(draw::harmless(value), address, 0, 1, pick(random, &raw const plain, &raw const plain_end));
                } else {
                    let what = pick(random, &raw const accesses, &raw const accesses_end);
                    call(value, address, random.value(), random.below(4), what);
                }
            }
            6 | 7 => {
                let what = pick(random, &raw const privileged, &raw const privileged_end);
                call(draw::leaf(random), scratch(vcpu), random.value(), draw::msr(random), what);
            }
            8 | 9 => {
                let what = pick(random, &raw const inputs, &raw const inputs_end);
                call(random.value(), scratch(vcpu), draw::port(random), random.below(5), what);
            }
            10 | 11 => {
                let what = pick(random, &raw const outputs, &raw const outputs_end);
                call(random.value(), scratch(vcpu), draw::port_to_write(random), random.below(5), what);
            }
            12..15 => {
                let msr = draw::msr_to_write(random);
                write_msr(msr, draw::value_of(random, msr));
            }
            _ => {
                write_msr(ICR, draw::message(random));
                if random.one_in(4) {
                    write_msr(APIC_BASE, draw::base(random));
                }
                call(0, draw::nowhere(random), 0, 0, &raw const go_there);
            }
        }
    }
}

fn write_msr(msr: u32, value: u64) {
    // SAFETY: as in `step`.
    unsafe { one(value, 0, 0, msr.into(), &raw const write_any_msr) };
}

/// Has the page tables reach 512 GiB, and vCPU 1 use them.
fn reach_everything() {
    let root: u64;
    // SAFETY: the first two tables are one behind the other; entries from 4 GiB up are nobody's yet.
    unsafe {
        asm!("mov {0}, cr3", out(reg) root, options(nomem, nostack));
        let table = core::ptr::with_exposed_provenance_mut::<u64>(root as usize + 0x1000);
        for n in 4..ENTRIES {
            table.add(n as usize).write_volatile(n << 30 | LEAF);
        }
        (&raw mut second_root).write_volatile(root);
    }
}

fn make_gates() {
    for n in 0..32 {
        // SAFETY: nobody else uses the table yet.
        unsafe {
            let at = (&raw const vectors[n]).expose_provenance() as u64;
            GATES[n] = [at & 0xffff | CODE << 16 | 0x8e00 << 32 | (at >> 16 & 0xffff) << 48, at >> 32];
        }
    }
}

fn scratch(vcpu: usize) -> u64 {
    // In the middle, for strings go either way.
    (&raw const SCRATCH).expose_provenance() as u64 + vcpu as u64 * 256 + 128
}

/// One of the instructions between two places.
fn pick(random: &mut Random, begin: *const u8, end: *const u8) -> *const u8 {
    let count = (end.addr() - begin.addr()) as u64 / 16;
    begin.wrapping_add(16 * random.below(count) as usize)
}
