//! The console's interrupt on a PC: a pin of the I/O APIC, which COM1 raises when there is something to read.

use crate::apic;
use crate::machine::{Tree, fail, now, output, typed, waits};

/// COM1's interrupt enable register: received data; and its modem control: the interrupt leaves the chip.
const ENABLE: u16 = 0x3f9;
const RECEIVED: u8 = 1 << 0;
const MODEM: u16 = 0x3fc;
const OUT2: u8 = 1 << 3;
/// Its pin, and the vector that it gets.
const PIN: u32 = 4;
const VECTOR: u8 = 0x42;

/// The console's interrupt, as it is to be presented.
pub struct Line;

impl Line {
    /// Sets it up; interrupts are off.
    pub fn new(_tree: &Tree) -> Self {
        apic::set_up();
        apic::route(PIN, VECTOR);
        output(MODEM, OUT2);
        output(ENABLE, RECEIVED);
        Self
    }

    /// Passes time with interrupts off.
    pub fn spin(ticks: u64) {
        let until = now() + ticks;
        while now() < until {}
    }

    /// Whether it waits. Asking makes the hypervisor look.
    pub fn waits(&self) -> bool {
        waits()
    }

    /// Turns interrupts on until it was taken, for `most` ticks; the ticks until the vector's first instructions.
    pub fn open(&self, most: u64) -> Option<u64> {
        apic::rearm();
        let begun = now();
        apic::open(begun + most).map(|taken| taken - begun)
    }

    /// Halts until it was taken.
    pub fn sleep(&self) {
        while !apic::wait() {}
    }

    /// Takes the interrupt and the character, and makes sure that there are no others.
    pub fn take(&self, key: u8) {
        if apic::last() != VECTOR {
            fail(format_args!("the interrupt taken is {:#x}, not {VECTOR:#x}", apic::last()));
        }
        let typed = [typed(), typed()];
        if typed != [Some(key), None] {
            fail(format_args!("{typed:x?} in place of {}", char::from(key)));
        }
        apic::end();
        if apic::requested() {
            fail(format_args!("after the end of the interrupt another is left"));
        }
    }
}
