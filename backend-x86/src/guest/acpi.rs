//! The ACPI tables that a guest finds (ACPI specification 6.4, chapter 5): processors, the I/O APIC, the console, and how to
//! switch off and reboot.
//!
//! The machine is hardware-reduced: no SCI, no fixed event registers, no PIC, no PIT interrupts. Soft-off goes through the sleep
//! control register, reboot through the reset register. There is the timer, by which systems measure the rate of the time-stamp
//! counter where the processor does not tell it: to read it takes one access, where the PIT takes thousands in a row.
//!
//! Written by hand and not with a library, because there may be no memory for it and then there is an answer; tests hold it
//! against the library.

use super::blob::Blob;
use super::layout::power;
use super::rtc;
use crate::{apic, ioapic, uart};

/// Lengths of a table's header, of the root pointer, of the fixed description table, of a processor's entry, of an I/O APIC's.
const HEADER: usize = 36;
const ROOT_POINTER: usize = 36;
const FIXED: usize = 276;
const PROCESSOR: usize = 8;
const IO_APIC: usize = 12;
/// Where the processors' entries begin in their table.
const PROCESSORS: usize = HEADER + 8;

/// Offsets of the tables.
const XSDT: usize = 0x40;
const FADT: usize = 0x80;
const DSDT: usize = 0x200;
const MADT: usize = 0x300;

/// Bytes to be set aside for the tables of any VM.
pub const ROOM: usize = MADT + PROCESSORS + apic::MAX_VCPUS as usize * PROCESSOR + IO_APIC;

const OEM: [u8; 6] = *b"TRIVET";
const OEM_TABLE: [u8; 8] = *b"TRIVETVM";
const CREATOR: [u8; 4] = *b"TRVT";

/// FADT flags: WBINVD works, C1 works everywhere, no fixed power and sleep buttons, there is a reset register, nobody looks at
/// a screen, hardware-reduced.
const FLAGS: u32 = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 12 | 1 << 20;
/// FADT boot architecture: no VGA, no message-signaled interrupts. No keyboard controller: its bit is clear.
const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 3;

/// `_S5`: what sleep control is written with. The console: PNP0501, its ports, its interrupt (an edge, active high). And the
/// calendar clock: PNP0B00, its ports, and no interrupt: a system that is not told so looks for one.
#[rustfmt::skip] // one object a line
const AML: [u8; 113] = {
    const END: u8 = 0x79;
    let [port_low, port_high] = uart::PORT.to_le_bytes();
    let [clock_low, clock_high] = rtc::INDEX.to_le_bytes();
    [
        0x08, b'_', b'S', b'5', b'_', 0x12, 7, 4, 0x0a, power::SOFT_OFF, 0, 0, 0, // Name (_S5, Package () {5, 0, 0, 0})
        0x10, 0x43, 6, b'_', b'S', b'B', b'_', // Scope (_SB)
        0x5b, 0x82, 49, b'C', b'O', b'M', b'1', // Device (COM1)
        0x08, b'_', b'H', b'I', b'D', 0x0c, 0x41, 0xd0, 0x05, 0x01, // Name (_HID, EisaId ("PNP0501"))
        0x08, b'_', b'U', b'I', b'D', 0, // Name (_UID, Zero)
        0x08, b'_', b'C', b'R', b'S', 0x11, 22, 0x0a, 19, // Name (_CRS, ResourceTemplate () {
        0x47, 1, port_low, port_high, port_low, port_high, 1, uart::PORTS as u8, // IO (Decode16, ...)
        0x89, 6, 0, 0b0011, 1, uart::PIN as u8, 0, 0, 0, // Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive)
        END, 0, // })
        0x5b, 0x82, 40, b'R', b'T', b'C', b'0', // Device (RTC0)
        0x08, b'_', b'H', b'I', b'D', 0x0c, 0x41, 0xd0, 0x0b, 0x00, // Name (_HID, EisaId ("PNP0B00"))
        0x08, b'_', b'U', b'I', b'D', 0, // Name (_UID, Zero)
        0x08, b'_', b'C', b'R', b'S', 0x11, 13, 0x0a, 10, // Name (_CRS, ResourceTemplate () {
        0x47, 1, clock_low, clock_high, clock_low, clock_high, 1, 2, // IO (Decode16, ...)
        END, 0, // })
    ]
};

/// Writes the tables of a VM with so many vCPUs at offset `at`, which is at guest address `base`; returns the root pointer's
/// address. `None` if they do not fit, or there are too many.
pub fn write(blob: &mut Blob, at: usize, base: u64, vcpus: u16) -> Option<u64> {
    let address = |table: usize| base.checked_add(table as u64);
    let (xsdt, fadt, dsdt, madt) = (address(XSDT)?, address(FADT)?, address(DSDT)?, address(MADT)?);
    // Root pointer: two sums, the first over what there was in version 1.
    blob.put(at, b"RSD PTR \0")?;
    blob.put(at + 9, &OEM)?;
    blob.put(at + 15, &[2])?;
    blob.put(at + 20, &(ROOT_POINTER as u32).to_le_bytes())?;
    blob.put(at + 24, &xsdt.to_le_bytes())?;
    blob.check(at, 20, at + 8)?;
    blob.check(at, ROOT_POINTER, at + 32)?;

    let table = at + XSDT;
    blob.put(table + HEADER, &fadt.to_le_bytes())?;
    blob.put(table + HEADER + 8, &madt.to_le_bytes())?;
    finish(blob, table, *b"XSDT", 1, HEADER + 16)?;

    let table = at + FADT;
    for (offset, field) in [(109, &BOOT_ARCHITECTURE.to_le_bytes()[..]), (112, &FLAGS.to_le_bytes())] {
        blob.put(table + offset, field)?;
    }
    for (offset, port) in [(116, power::RESET), (244, power::SLEEP_CONTROL), (256, power::SLEEP_STATUS)] {
        blob.put(table + offset, &port_address(port))?;
    }
    let [low, high] = power::TIMER.to_le_bytes();
    blob.put(table + 76, &[low, high, 0, 0])?;
    blob.put(table + 91, &[4])?;
    // A port of 32 bits.
    blob.put(table + 208, &[1, 32, 0, 3, low, high])?;
    blob.put(table + 108, &[rtc::CENTURY])?;
    blob.put(table + 128, &[power::RESET_VALUE])?;
    blob.put(table + 131, &[5])?;
    blob.put(table + 140, &dsdt.to_le_bytes())?;
    finish(blob, table, *b"FACP", 6, FIXED)?;

    let table = at + DSDT;
    blob.put(table + HEADER, &AML)?;
    finish(blob, table, *b"DSDT", 2, HEADER + AML.len())?;

    let table = at + MADT;
    blob.put(table + HEADER, &(apic::BASE.0 as u32).to_le_bytes())?;
    let mut end = table + PROCESSORS;
    for vcpu in 0..u8::try_from(vcpus).ok().filter(|_| vcpus <= apic::MAX_VCPUS)? {
        blob.put(end, &[0, PROCESSOR as u8, vcpu, vcpu, 1])?;
        end += PROCESSOR;
    }
    blob.put(end, &[1, IO_APIC as u8, 0, 0])?;
    blob.put(end + 4, &(ioapic::BASE.0 as u32).to_le_bytes())?;
    end += IO_APIC;
    finish(blob, table, *b"APIC", 5, end - table)?;
    Some(base)
}

/// A generic address of an 8-bit port.
const fn port_address(port: u16) -> [u8; 12] {
    let [low, high] = port.to_le_bytes();
    [1, 8, 0, 1, low, high, 0, 0, 0, 0, 0, 0]
}

/// Gives a table its header and its sum.
fn finish(blob: &mut Blob, at: usize, signature: [u8; 4], revision: u8, len: usize) -> Option<()> {
    blob.put(at, &signature)?;
    blob.put(at + 4, &u32::try_from(len).ok()?.to_le_bytes())?;
    blob.put(at + 8, &[revision])?;
    blob.put(at + 10, &OEM)?;
    blob.put(at + 16, &OEM_TABLE)?;
    blob.put(at + 24, &1_u32.to_le_bytes())?;
    blob.put(at + 28, &CREATOR)?;
    blob.put(at + 32, &1_u32.to_le_bytes())?;
    blob.check(at, len, at + 9)
}

#[cfg(test)]
mod tests;
