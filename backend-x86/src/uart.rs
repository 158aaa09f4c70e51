//! The guest's console: a 16550A (National Semiconductor's data sheet) whose far end is [`Services`].
//!
//! What is written goes out at once, so the transmitter is always empty. What was typed waits with the hypervisor until the guest
//! looks; then as much is taken as the FIFO holds. Baud rate, parity and such are kept and have no effect. There are no modem
//! lines but in loop-back mode, and no errors.

use hv_core::vcpu::services::Services;

use crate::bus::Level;

/// The first register's port: COM1.
pub const PORT: u16 = 0x3f8;
/// Registers.
pub const PORTS: u16 = 8;
/// Its interrupt: the pin of the I/O APIC.
pub const PIN: usize = 4;

/// Bytes of the receive FIFO.
const DEPTH: usize = 16;

/// Interrupt enable: received data, transmitter empty; line and modem status never change.
const IER_RX: u8 = 1 << 0;
const IER_TX: u8 = 1 << 1;
const IER_BITS: u8 = 0x0f;
/// Interrupt identification.
const IIR_NONE: u8 = 0x01;
const IIR_TX: u8 = 0x02;
const IIR_RX: u8 = 0x04;
const IIR_TIMEOUT: u8 = 0x0c;
const IIR_FIFO: u8 = 0xc0;
/// FIFO control: on, clear the receiver's.
const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RX: u8 = 1 << 1;
/// Line control: the first two registers are the divisor's.
const LCR_DLAB: u8 = 1 << 7;
/// Modem control: OUT2, which lets the interrupt out of the chip; loop-back.
const MCR_OUT2: u8 = 1 << 3;
const MCR_LOOP: u8 = 1 << 4;
const MCR_BITS: u8 = 0x1f;
/// Line status: data ready; transmitter empty in both senses.
const LSR_READY: u8 = 1 << 0;
const LSR_EMPTY: u8 = 1 << 5 | 1 << 6;
/// Modem status: somebody is there (DCD, DSR, CTS).
const MSR_PRESENT: u8 = 0xb0;

/// The registers.
#[derive(Debug)]
pub struct Uart {
    fifo: [u8; DEPTH],
    /// How many of `fifo` have been received and not read; the oldest first.
    count: usize,
    /// More may have been typed than was taken.
    more: bool,
    /// The transmitter has become empty since the guest was told.
    emptied: bool,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    scratch: u8,
    divisor: [u8; 2],
}

/// What a write makes the hypervisor do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The byte goes to the operator.
    Send(u8),
}

impl Uart {
    /// After reset.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            fifo: [0; DEPTH],
            count: 0,
            more: false,
            emptied: false,
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            scratch: 0,
            divisor: [12, 0],
        }
    }

    /// The interrupt line.
    #[must_use]
    pub const fn line(&self) -> Level {
        // Loop-back cuts OUT2 off.
        let out = self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2;
        if out && self.cause() != IIR_NONE { Level::High } else { Level::Low }
    }

    /// Something has been typed, or may have been.
    pub const fn typed(&mut self) {
        self.more = true;
    }

    /// Reads register `n`, 0 to 7.
    pub fn read(&mut self, n: u16, s: &dyn Services) -> u8 {
        match (n, self.lcr & LCR_DLAB != 0) {
            (0 | 1, true) => self.divisor[usize::from(n)],
            (0, false) => {
                self.receive(s);
                self.take()
            }
            (1, false) => self.ier,
            (2, _) => {
                self.receive(s);
                let cause = self.cause();
                // To be told of the empty transmitter is to know.
                self.emptied &= cause != IIR_TX;
                cause | if self.fcr & FCR_ENABLE != 0 { IIR_FIFO } else { 0 }
            }
            (3, _) => self.lcr,
            (4, _) => self.mcr,
            (5, _) => {
                self.receive(s);
                LSR_EMPTY | if self.count > 0 { LSR_READY } else { 0 }
            }
            (6, _) => self.modem(),
            (7, _) => self.scratch,
            _ => 0xff,
        }
    }

    /// Writes register `n`, 0 to 7.
    pub fn write(&mut self, n: u16, value: u8) -> Effect {
        match (n, self.lcr & LCR_DLAB != 0) {
            (0 | 1, true) => self.divisor[usize::from(n)] = value,
            (0, false) => {
                self.emptied = true;
                if self.mcr & MCR_LOOP == 0 {
                    return Effect::Send(value);
                }
                if let Some(slot) = self.fifo.get_mut(self.count).filter(|_| self.count < depth(self.fcr)) {
                    *slot = value;
                    self.count += 1;
                }
            }
            (1, false) => {
                self.emptied |= value & !self.ier & IER_TX != 0;
                self.ier = value & IER_BITS;
            }
            (2, _) => {
                // Switching the FIFOs empties them too.
                if value & FCR_CLEAR_RX != 0 || (value ^ self.fcr) & FCR_ENABLE != 0 {
                    self.count = 0;
                }
                self.fcr = value;
            }
            (3, _) => self.lcr = value,
            (4, _) => self.mcr = value & MCR_BITS,
            (7, _) => self.scratch = value,
            _ => {}
        }
        Effect::None
    }

    /// The cause with the highest priority, of those that are enabled.
    const fn cause(&self) -> u8 {
        if self.ier & IER_RX != 0 && self.count >= self.trigger() {
            IIR_RX
        } else if self.ier & IER_RX != 0 && (self.count > 0 || self.more && self.mcr & MCR_LOOP == 0) {
            // Fewer than asked for, and nothing has followed for a while; or something waits to be fetched.
            IIR_TIMEOUT
        } else if self.ier & IER_TX != 0 && self.emptied {
            IIR_TX
        } else {
            IIR_NONE
        }
    }

    /// How many bytes make the receive interrupt.
    const fn trigger(&self) -> usize {
        match (self.fcr & FCR_ENABLE != 0, self.fcr >> 6) {
            (false, _) | (_, 0) => 1,
            (_, 1) => 4,
            (_, 2) => 8,
            _ => 14,
        }
    }

    /// In loop-back mode the modem's answers are our own: RTS, DTR, OUT1, OUT2 as CTS, DSR, RI, DCD.
    const fn modem(&self) -> u8 {
        if self.mcr & MCR_LOOP == 0 {
            return MSR_PRESENT;
        }
        (self.mcr & 2) << 3 | (self.mcr & 1) << 5 | (self.mcr & 0b1100) << 4
    }

    /// Takes what has been typed, as far as there is room. In loop-back mode the receiver hears nobody else.
    fn receive(&mut self, s: &dyn Services) {
        let heard = self.more && self.mcr & MCR_LOOP == 0;
        let room = self.fifo.get_mut(self.count..depth(self.fcr));
        if let Some(room) = room.filter(|room| heard && !room.is_empty()) {
            let taken = s.console_read(room).min(room.len());
            self.more = taken == room.len();
            self.count += taken;
        }
    }

    fn take(&mut self) -> u8 {
        let Some(first) = self.fifo.first().copied().filter(|_| self.count > 0) else { return 0 };
        self.fifo.copy_within(1.., 0);
        self.count -= 1;
        first
    }
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

/// How many bytes the FIFO holds as it is set up.
const fn depth(fcr: u8) -> usize {
    if fcr & FCR_ENABLE != 0 { DEPTH } else { 1 }
}

#[cfg(test)]
mod tests;
