//! The vCPU's interrupts on a PC: as much of a driver for an x2APIC and an I/O APIC (SDM volume 3A, "APIC"; Intel 82093AA) as
//! measuring guests need. Everything goes to vCPU 0.

use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::machine::{APIC_BASE, X2APIC, fail, load, now, read_msr, store, write_msr};

core::arch::global_asm!(include_str!("vectors.S"), options(raw));

unsafe extern "C" {
    static vectors: [[u8; 16]; 256];
    /// Time-stamp counter at which an interrupt's vector was entered, and the vector; 0 until then.
    static arrived: AtomicU64;
    static vector: AtomicU8;
}

/// Registers of the local APIC: spurious vector, end of interrupt, requests.
const SVR: u32 = 0x80f;
const EOI: u32 = 0x80b;
const IRR: u32 = 0x820;
/// On, and the vector of what turns out to be nothing.
const ENABLED: u64 = 1 << 8 | 0xff;
/// The I/O APIC: register select, window; the redirection table, two registers an entry.
const SELECT: u64 = 0xfec0_0000;
const WINDOW: u64 = SELECT + 0x10;
const TABLE: u32 = 0x10;

/// The interrupt descriptor table.
static mut TABLE_OF_GATES: [[u64; 2]; 256] = [[0; 2]; 256];

/// Sets up the vectors and the local APIC. Interrupts stay off.
pub fn set_up() {
    let code: u16;
    // SAFETY: reads a segment register.
    unsafe { asm!("mov {0:x}, cs", out(reg) code, options(nomem, nostack)) };
    for n in 0..256 {
        // SAFETY: the table is nobody else's, and not in use yet; the vectors are code that stays where it is.
        unsafe {
            let at = (&raw const vectors[n]).expose_provenance() as u64;
            // An interrupt gate of 64 bits: present, type 14.
            let low = at & 0xffff | u64::from(code) << 16 | 0x8e00 << 32 | (at >> 16 & 0xffff) << 48;
            TABLE_OF_GATES[n] = [low, at >> 32];
        }
    }
    let base = (&raw const TABLE_OF_GATES).expose_provenance() as u64;
    let register = [base << 16 | (size_of::<[[u64; 2]; 256]>() as u64 - 1), base >> 48];
    // SAFETY: the table is filled; ten bytes are read. An APIC that is on does nothing by itself.
    unsafe {
        asm!("lidt [{0}]", in(reg) &raw const register, options(readonly, nostack));
        write_msr(APIC_BASE, read_msr(APIC_BASE) | X2APIC);
        write_msr(SVR, ENABLED);
    }
}

/// Sends a pin of the I/O APIC, edge-triggered, to vCPU 0 as this vector.
pub fn route(pin: u32, to: u8) {
    for (n, value) in [(1, 0), (0, to.into())] {
        store(SELECT, TABLE + 2 * pin + n);
        store(WINDOW, value);
    }
    if load(WINDOW) != u32::from(to) {
        fail(format_args!("pin {pin} of the I/O APIC cannot be routed"));
    }
}

/// True if some interrupt has been requested and not been taken.
pub fn requested() -> bool {
    (0..8).any(|n| read_msr(IRR + n) != 0)
}

/// The vector of the interrupt that was taken last.
pub fn last() -> u8 {
    // SAFETY: written by the vectors too, a byte at a time.
    unsafe { vector.load(Ordering::Relaxed) }
}

/// Ends an interrupt.
pub fn end() {
    // SAFETY: it was taken.
    unsafe { write_msr(EOI, 0) };
}

/// Forgets that an interrupt was taken.
pub fn rearm() {
    // SAFETY: written by the vectors too, a word at a time.
    unsafe { arrived.store(0, Ordering::Relaxed) };
}

/// The counter at which an interrupt was taken since [`rearm`].
pub fn taken() -> Option<u64> {
    // SAFETY: as above.
    match unsafe { arrived.load(Ordering::Relaxed) } {
        0 => None,
        at => Some(at),
    }
}

/// Lets interrupts come until one was taken or the counter has reached `until`.
pub fn open(until: u64) -> Option<u64> {
    // SAFETY: the vectors are there; they turn interrupts off again.
    unsafe { asm!("sti", options(nostack)) };
    while taken().is_none() && now() < until {}
    // SAFETY: turns interrupts off.
    unsafe { asm!("cli", options(nostack)) };
    taken()
}

/// Halts until an interrupt was taken; true if one was.
pub fn wait() -> bool {
    rearm();
    // SAFETY: as in `open`. None comes between the first two.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
    taken().is_some()
}

/// An exception that the program has no use for.
#[unsafe(no_mangle)]
extern "C" fn unexpected(kind: u64, error: u64, at: u64) -> ! {
    let address: u64;
    // SAFETY: a register that the exception may have set.
    unsafe { asm!("mov {0}, cr2", out(reg) address, options(nomem, nostack)) };
    fail(format_args!("exception {kind} at {at:#x}: error {error:#x}, address {address:#x}"))
}
