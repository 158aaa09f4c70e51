//! What is drawn on x86: addresses, ports, model-specific registers and what they are given.

use crate::machine::APIC_BASE;
use crate::random::Random;

/// The devices in memory: the I/O APIC, the local APICs, and the hole that they are in.
const IO_APIC: u64 = 0xfec0_0000;
const LOCAL_APIC: u64 = 0xfee0_0000;
const HOLE: u64 = 3 << 30;
const HOLE_BYTES: u64 = 1 << 30;
/// What page tables reach.
const REACH: u64 = 1 << 39;
/// Power control, which ends the VM.
const POWER: core::ops::Range<u64> = 0x5f0..0x610;
/// The interrupt command register of an x2APIC.
const ICR: u32 = 0x830;
const EFER: u32 = 0xc000_0080;
const TSC: u32 = 0x10;
/// Delivery modes, in a message's bits 10:8, that nobody may be sent by accident.
const NMI: u64 = 4;
const INIT: u64 = 5;
const START: u64 = 6;

/// Somewhere outside of memory.
pub fn address(random: &mut Random, memory: u64) -> u64 {
    let offset = |random: &mut Random| {
        let offset = random.below(0x1000);
        // Mostly where a register could be.
        if random.one_in(8) { offset } else { offset & !0xf }
    };
    match random.below(16) {
        0..7 => LOCAL_APIC + offset(random),
        7..11 => IO_APIC + (offset(random) & if random.one_in(4) { !0 } else { 0x1f }),
        11 | 12 => HOLE + random.below(HOLE_BYTES),
        13 => REACH / 2 + random.below(REACH / 2 - 0x1000),
        // Across the end of memory, of which nobody uses the last page.
        14 => memory - 16 + random.below(32),
        _ => memory + random.below(HOLE - memory),
    }
}

/// A place where nothing can be executed.
pub fn nowhere(random: &mut Random) -> u64 {
    HOLE + random.below(HOLE_BYTES)
}

/// True if a store there could send a message: the interrupt command register, or, at the next chance, the I/O APIC's window.
/// Some stores are of 512 bytes, none of which begins below that window.
pub fn is_command(address: u64) -> bool {
    let within = |base: u64, from: u64, to: u64| (base + from..base + to).contains(&address);
    within(LOCAL_APIC, 0x100, 0x320) || within(IO_APIC, 0x09, 0x20)
}

/// A value in which no byte can be the one that says NMI, INIT or start-up.
pub fn harmless(value: u64) -> u64 {
    value & 0xfafa_fafa_fafa_fafa
}

/// A leaf of CPUID, a hypercall, a task priority: what there could be, or anything.
pub fn leaf(random: &mut Random) -> u64 {
    match random.below(5) {
        4 => random.below(16),
        0 => random.below(0x30),
        1 => 0x8000_0000 + random.below(0x30),
        2 => 0x4000_0000 + random.below(0x200),
        _ => random.value(),
    }
}

/// Any port.
pub fn port(random: &mut Random) -> u64 {
    match random.below(8) {
        0 | 1 => 0x3f0 + random.below(24),
        2 => 0x40 + random.below(4),
        3 => 0x60 + random.below(0x20),
        4 => 0x20 + random.below(2) + random.below(2) * 0x80,
        5 => 0xcf8 + random.below(8),
        6 => 0x600 + random.below(8),
        _ => random.below(0x1_0000),
    }
}

/// Any port but those that end the VM.
pub fn port_to_write(random: &mut Random) -> u64 {
    loop {
        let port = port(random);
        if !POWER.contains(&port) {
            return port;
        }
    }
}

/// Any model-specific register.
pub fn msr(random: &mut Random) -> u64 {
    match random.below(8) {
        0 | 1 => 0x800 + random.below(0x100),
        2 => random.below(0x800),
        3 => 0xc000_0080 + random.below(5),
        4 => 0xc000_0100 + random.below(8),
        5 => 0xc001_0000 + random.below(0x200),
        6 => 0x4000_0000 + random.below(0x100),
        _ => random.next() & 0xffff_ffff,
    }
}

/// Any but those without which the program is not what it was, and the one that sends messages.
pub fn msr_to_write(random: &mut Random) -> u32 {
    loop {
        let msr = msr(random) as u32;
        if !matches!(msr, EFER | ICR | APIC_BASE | TSC) {
            return msr;
        }
    }
}

/// What it is given: mostly what it could take.
pub fn value_of(random: &mut Random, msr: u32) -> u64 {
    match msr {
        0x800..=0x8ff if random.one_in(2) => random.below(0x400),
        _ => random.value(),
    }
}

/// A message of any kind to anybody; but NMIs go to the sender, INIT to vCPU 1, and start-up to nobody.
pub fn message(random: &mut Random) -> u64 {
    let drawn = random.value() & !0xf_0000 | random.below(4) << 18;
    match drawn >> 8 & 7 {
        NMI => 0x4_4400,
        INIT => 1 << 32 | 0x4500,
        START => drawn & !0x700,
        _ => drawn,
    }
}

/// The base register: where it is, somewhere else, off, on, by registers.
pub fn base(random: &mut Random) -> u64 {
    let base = if random.one_in(4) { random.value() } else { LOCAL_APIC };
    base & !0xd00 | random.below(2) << 8 | random.below(4) << 10
}
