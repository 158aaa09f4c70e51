//! The I/O APIC that a guest sees: 24 pins (Intel 82093AA, and the SDM's chapter on local APICs for messages and their ends).
//!
//! It is used under a lock of its machine's; what it sends goes to the local APICs without another. Whoever calls something that
//! returns a [`Rouse`] carries it out after letting go of the lock.
//!
//! Polarity is kept and has no effect: a line is up when its device asks for service.

use crate::apic::{Apics, Delivery, Destination, Message, Rouse, Trigger};
use crate::bus::{Level, Width};
use hv_core::addr::Gpa;

/// Where its registers are.
pub const BASE: Gpa = Gpa(0xfec0_0000);
/// Their length in bytes: a page, though there are two registers.
pub const BYTES: u64 = 0x1000;
/// How many pins it has: global system interrupts 0 to 23.
pub const PINS: usize = 24;

/// Register select, and the window onto the selected register.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
/// Selected: identification, version, arbitration, and the redirection table, two registers an entry.
const ID: u8 = 0x00;
const VERSION: u8 = 0x01;
const ARBITRATION: u8 = 0x02;
const TABLE: u8 = 0x10;
/// Version 0x11, no register for the end of an interrupt.
const VERSION_VALUE: u32 = 0x11 | (PINS as u32 - 1) << 16;
const ID_BITS: u32 = 0x0f00_0000;

/// Bits of a redirection entry.
mod entry {
    pub const LOGICAL: u64 = 1 << 11;
    pub const REMOTE_IRR: u64 = 1 << 14;
    pub const LEVEL: u64 = 1 << 15;
    pub const MASKED: u64 = 1 << 16;
    /// Those that can be written.
    pub const WRITABLE: u64 = 0xff << 56 | 0x1_afff;
}

/// The registers.
#[derive(Debug)]
pub struct IoApic {
    select: u8,
    id: u32,
    entries: [u64; PINS],
    /// Lines that are up, bit = pin.
    lines: u32,
}

impl IoApic {
    /// After reset: every pin is masked.
    #[must_use]
    pub const fn new() -> Self {
        Self { select: 0, id: 0, entries: [entry::MASKED; PINS], lines: 0 }
    }

    /// Reads `width` bytes at `offset`.
    #[must_use]
    pub fn read(&self, offset: u64, width: Width) -> u64 {
        let value = match offset {
            SELECT => self.select.into(),
            WINDOW => self.selected(),
            _ => 0,
        };
        u64::from(value) & width.mask()
    }

    fn selected(&self) -> u32 {
        match self.select {
            ID | ARBITRATION => self.id,
            VERSION => VERSION_VALUE,
            _ => self.pin().map_or(0, |(pin, shift)| (self.entries[pin] >> shift) as u32),
        }
    }

    /// The pin whose entry is selected, and by how many bits that half of it is shifted.
    fn pin(&self) -> Option<(usize, u32)> {
        let n = self.select.checked_sub(TABLE)?;
        Some((usize::from(n / 2), u32::from(n % 2) * 32)).filter(|(pin, _)| *pin < PINS)
    }

    /// Writes `width` bytes at `offset`. The window takes 32 bits at once only.
    pub fn write(&mut self, apics: &Apics, offset: u64, width: Width, value: u64) -> Rouse {
        match (offset, width) {
            (SELECT, _) => self.select = value as u8,
            (WINDOW, Width::Double) if self.select == ID => self.id = value as u32 & ID_BITS,
            (WINDOW, Width::Double) => {
                if let Some((pin, shift)) = self.pin() {
                    return self.set_entry(apics, pin, shift, value as u32);
                }
            }
            _ => {}
        }
        Rouse::NOBODY
    }

    fn set_entry(&mut self, apics: &Apics, pin: usize, shift: u32, value: u32) -> Rouse {
        let mask = u64::from(u32::MAX) << shift & entry::WRITABLE;
        let e = &mut self.entries[pin];
        *e = *e & !mask | u64::from(value) << shift & mask;
        // An edge has no end to wait for. Systems make a level an edge and a level again to forget one.
        if *e & entry::LEVEL == 0 {
            *e &= !entry::REMOTE_IRR;
        }
        self.settle(apics, pin)
    }

    /// A device's line changes.
    pub fn set_line(&mut self, apics: &Apics, pin: usize, level: Level) -> Rouse {
        let Some(e) = self.entries.get(pin).copied() else { return Rouse::NOBODY };
        let bit = 1 << pin;
        let rises = level == Level::High && self.lines & bit == 0;
        self.lines = if level == Level::High { self.lines | bit } else { self.lines & !bit };
        // An edge that comes while its pin is masked is lost, as on the original.
        if rises && e & (entry::LEVEL | entry::MASKED) == 0 { send(apics, e) } else { self.settle(apics, pin) }
    }

    /// An interrupt with this vector, which was a level, is over.
    pub fn end(&mut self, apics: &Apics, vector: u8) -> Rouse {
        let mut rouse = Rouse::NOBODY;
        for pin in 0..PINS {
            let e = &mut self.entries[pin];
            if *e as u8 == vector && *e & entry::REMOTE_IRR != 0 {
                *e &= !entry::REMOTE_IRR;
                rouse = rouse.and(self.settle(apics, pin));
            }
        }
        rouse
    }

    /// Sends what a level that is up makes necessary.
    fn settle(&mut self, apics: &Apics, pin: usize) -> Rouse {
        let e = &mut self.entries[pin];
        let due = *e & (entry::LEVEL | entry::MASKED | entry::REMOTE_IRR) == entry::LEVEL && self.lines >> pin & 1 != 0;
        if !due {
            return Rouse::NOBODY;
        }
        // Others than interrupts have no end, and would be sent for ever.
        *e |= entry::REMOTE_IRR;
        send(apics, *e)
    }
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

fn send(apics: &Apics, e: u64) -> Rouse {
    let (id, logical) = ((e >> 56) as u8, e & entry::LOGICAL != 0);
    let to = if logical { Destination::Logical8(id) } else { Destination::Physical8(id) };
    let trigger = if e & entry::LEVEL != 0 { Trigger::Level } else { Trigger::Edge };
    let delivery = match Delivery::from_bits(e as u32) {
        // Starting processors is not for devices.
        Delivery::StartUp => Delivery::None,
        delivery => delivery,
    };
    apics.send(None, to, Message { delivery, vector: e as u8, trigger })
}

#[cfg(test)]
mod tests;
