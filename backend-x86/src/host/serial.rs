//! The operator's console: the 16550 of the first serial port (National Semiconductor PC16550D data sheet, 8).
//!
//! No state, so that any CPU may write at any time, a panic among them; a driver that owns the device could not.
#![expect(unsafe_code, reason = "device registers")]

use hv_core::machine::Console;
use x86_64::instructions::port::Port;

/// Where PCs have it.
const BASE: u16 = 0x3f8;

/// Registers: data; which interrupts; FIFO control; line control; modem control; line status.
const DATA: u16 = BASE;
const INTERRUPTS: u16 = BASE + 1;
const FIFO: u16 = BASE + 2;
const LINE: u16 = BASE + 3;
const MODEM: u16 = BASE + 4;
const STATUS: u16 = BASE + 5;

const DIVISOR_ACCESS: u8 = 1 << 7;
const EIGHT_BITS: u8 = 3;
/// DTR, RTS, and OUT2, which on a PC lets the interrupt out.
const READY: u8 = 1 << 0 | 1 << 1 | 1 << 3;
const FIFO_ON: u8 = 1;
const RECEIVED: u8 = 1 << 0;
/// There is room to send; all has been sent.
const ROOM: u8 = 1 << 5;
const EMPTY: u8 = 1 << 6;
/// Looks at a device that does not get on, before what is said is given up. There may be no device at all.
const PATIENCE: u32 = 1 << 20;

/// The console.
#[derive(Debug)]
pub struct Serial;

impl Serial {
    /// Sets the device up: 115,200 baud, eight bits, no parity. What was received already is kept.
    pub fn open(&self) {
        put(LINE, DIVISOR_ACCESS | EIGHT_BITS);
        put(DATA, 1);
        put(INTERRUPTS, 0);
        put(LINE, EIGHT_BITS);
        put(FIFO, FIFO_ON);
        put(MODEM, READY);
    }

    /// Has the device raise its interrupt when something was received.
    pub fn enable_interrupt(&self) {
        put(INTERRUPTS, RECEIVED);
    }

    /// Waits until everything has left the device.
    pub fn finish(&self) {
        wait(EMPTY);
    }
}

impl Console for Serial {
    fn write(&self, bytes: &[u8]) {
        for byte in bytes {
            wait(ROOM);
            put(DATA, *byte);
        }
    }

    fn read(&self, into: &mut [u8]) -> usize {
        for (n, byte) in into.iter_mut().enumerate() {
            // All bits: there is no device.
            let status = get(STATUS);
            if status & RECEIVED == 0 || status == u8::MAX {
                return n;
            }
            *byte = get(DATA);
        }
        into.len()
    }
}

fn wait(what: u8) {
    for _ in 0..PATIENCE {
        if get(STATUS) & what != 0 {
            return;
        }
        core::hint::spin_loop();
    }
}

fn put(register: u16, value: u8) {
    // SAFETY: a register of the device, or of none.
    unsafe { Port::new(register).write(value) };
}

fn get(register: u16) -> u8 {
    // SAFETY: as above; what reading takes from the device its caller passes on.
    unsafe { Port::new(register).read() }
}
