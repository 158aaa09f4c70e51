//! The guest's console: a PL011 (Arm DDI 0183) whose far end is [`Services`].
//!
//! What is written goes out at once, so the transmitter is always empty. What was typed waits with the hypervisor until the
//! guest looks; then as much is taken as the FIFO holds. The raw receive interrupts are levels: up while something is there
//! to be read, whatever was written to UARTICR. There are no modem lines, no DMA, no loop back and no errors.

use hv_core::vcpu::services::Services;

use crate::vcpu::mmio::Width;
use crate::vgic::Level;

/// Bytes of the receive FIFO: 32 from revision r1p5 on.
const DEPTH: usize = 32;

/// UARTLCR_H.FEN: the FIFOs are on.
const LCR_FEN: u32 = 1 << 4;
/// UARTFR: receive FIFO empty, receive FIFO full, transmit FIFO empty.
const FR_RXFE: u32 = 1 << 4;
const FR_RXFF: u32 = 1 << 6;
const FR_TXFE: u32 = 1 << 7;
/// Interrupts: receive, transmit, receive timeout.
const RX: u32 = 1 << 4;
const TX: u32 = 1 << 5;
const RT: u32 = 1 << 6;
/// All eleven.
const INTERRUPTS: u32 = 0x7ff;

/// The registers.
#[derive(Debug)]
pub struct Pl011 {
    fifo: [u8; DEPTH],
    /// How many of `fifo` have been received and not read; the oldest first.
    count: usize,
    /// More may have been typed than was taken.
    more: bool,
    /// The transmit interrupt: something has been sent since it was cleared.
    sent: bool,
    mask: u32,
    line_control: u32,
    control: u32,
    levels: u32,
    /// UARTILPR, UARTIBRD, UARTFBRD, UARTDMACR: kept, without effect.
    kept: [u32; 4],
}

/// What a write makes the hypervisor do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The byte goes to the operator.
    Send(u8),
}

/// Register offsets.
mod at {
    pub const DR: u64 = 0x000;
    pub const FR: u64 = 0x018;
    pub const ILPR: u64 = 0x020;
    pub const IBRD: u64 = 0x024;
    pub const FBRD: u64 = 0x028;
    pub const LCR_H: u64 = 0x02c;
    pub const CR: u64 = 0x030;
    pub const IFLS: u64 = 0x034;
    pub const IMSC: u64 = 0x038;
    pub const RIS: u64 = 0x03c;
    pub const MIS: u64 = 0x040;
    pub const ICR: u64 = 0x044;
    pub const DMACR: u64 = 0x048;
    /// UARTPeriphID0 to 3, then UARTPCellID0 to 3.
    pub const ID: u64 = 0xfe0;
}

/// Part 0x011, designer Arm (0x41), revision 3 (r1p5), configuration 0; a PrimeCell.
const IDS: [u32; 8] = [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

impl Pl011 {
    /// After reset (DDI 0183, table 3-1).
    pub const fn new() -> Self {
        Self {
            fifo: [0; DEPTH],
            count: 0,
            more: false,
            sent: false,
            mask: 0,
            line_control: 0,
            control: 0x300,
            levels: 0x12,
            kept: [0; 4],
        }
    }

    /// The interrupt line.
    pub fn line(&self) -> Level {
        if self.raw() & self.mask == 0 { Level::Low } else { Level::High }
    }

    /// Something has been typed, or may have been.
    pub const fn typed(&mut self) {
        self.more = true;
    }

    /// Reads a register.
    pub fn read(&mut self, offset: u64, width: Width, s: &impl Services) -> u64 {
        if !reaches(offset, width) {
            return 0;
        }
        if matches!(offset, at::DR | at::FR | at::RIS | at::MIS) {
            self.receive(s);
        }
        let value = match offset {
            at::DR => self.take().into(),
            at::FR => self.flags(),
            at::LCR_H => self.line_control,
            at::CR => self.control,
            at::IFLS => self.levels,
            at::IMSC => self.mask,
            at::RIS => self.raw(),
            at::MIS => self.raw() & self.mask,
            at::ID.. => IDS.get((offset - at::ID) as usize / 4).copied().unwrap_or(0),
            _ => self.kept(offset).copied().unwrap_or(0),
        };
        u64::from(value) & width.mask()
    }

    /// Writes a register.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) -> Effect {
        if !reaches(offset, width) {
            return Effect::None;
        }
        let value = (value & width.mask()) as u32;
        match offset {
            at::DR => {
                self.sent = true;
                return Effect::Send(value as u8);
            }
            at::LCR_H => self.line_control = value & 0xff,
            at::CR => self.control = value & 0xffff,
            at::IFLS => self.levels = value & 0x3f,
            at::IMSC => self.mask = value & INTERRUPTS,
            at::ICR => self.sent &= value & TX == 0,
            _ => {
                if let Some(kept) = self.kept(offset) {
                    *kept = value & 0xffff;
                }
            }
        }
        Effect::None
    }

    fn kept(&mut self, offset: u64) -> Option<&mut u32> {
        let n = match offset {
            at::ILPR => 0,
            at::IBRD => 1,
            at::FBRD => 2,
            at::DMACR => 3,
            _ => return None,
        };
        self.kept.get_mut(n)
    }

    /// How many bytes the FIFO holds as it is set up.
    const fn depth(&self) -> usize {
        if self.line_control & LCR_FEN != 0 { DEPTH } else { 1 }
    }

    /// How many bytes make the receive interrupt (UARTIFLS.RXIFLSEL: 1/8, 1/4, 1/2, 3/4, 7/8).
    const fn trigger(&self) -> usize {
        let eighths = match self.levels >> 3 & 7 {
            0 => 1,
            1 => 2,
            2 => 4,
            3 => 6,
            _ => 7,
        };
        let bytes = self.depth() * eighths / 8;
        if bytes == 0 { 1 } else { bytes }
    }

    const fn raw(&self) -> u32 {
        let rx = if self.count >= self.trigger() { RX } else { 0 };
        let timeout = if self.count > 0 || self.more { RT } else { 0 };
        rx | timeout | if self.sent { TX } else { 0 }
    }

    const fn flags(&self) -> u32 {
        let full = if self.count >= self.depth() { FR_RXFF } else { 0 };
        FR_TXFE | full | if self.count == 0 { FR_RXFE } else { 0 }
    }

    /// Takes what has been typed, as far as there is room.
    fn receive(&mut self, s: &impl Services) {
        let depth = self.depth();
        if let Some(room) = self.fifo.get_mut(self.count..depth).filter(|room| self.more && !room.is_empty()) {
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

/// Registers are words, of which the lower half or the lowest byte may be used alone.
const fn reaches(offset: u64, width: Width) -> bool {
    offset & 3 == 0 && !matches!(width, Width::Double)
}

#[cfg(test)]
mod tests {
    use super::{Effect, Pl011, at};
    use crate::vcpu::mmio::Width;
    use crate::vgic::Level;
    use services_double::Double;
    use std::vec::Vec;

    fn word(uart: &mut Pl011, offset: u64, s: &Double) -> u64 {
        uart.read(offset, Width::Word, s)
    }

    #[test]
    fn it_is_known_by_its_identification() {
        let (mut uart, s) = (Pl011::new(), Double::new(1));
        let ids: Vec<u64> = (0..8).map(|n| word(&mut uart, 0xfe0 + 4 * n, &s)).collect();
        assert_eq!(ids, [0x11, 0x10, 0x34, 0, 0x0d, 0xf0, 0x05, 0xb1]);
        assert_eq!((word(&mut uart, at::CR, &s), word(&mut uart, at::IFLS, &s)), (0x300, 0x12));
    }

    #[test]
    fn the_receive_interrupt_comes_at_its_level_and_the_timeout_at_once() {
        let (mut uart, s) = (Pl011::new(), Double::new(1));
        uart.write(at::LCR_H, Width::Byte, 0x10);
        uart.write(at::IMSC, Width::Word, 1 << 4);
        s.type_in(&[b'a'; 15]);
        uart.typed();
        assert_eq!(word(&mut uart, at::RIS, &s), 1 << 6, "15 of 32 bytes: half is not reached");
        assert_eq!(uart.line(), Level::Low);
        s.type_in(b"b");
        uart.typed();
        assert_eq!((word(&mut uart, at::RIS, &s), uart.line()), (1 << 6 | 1 << 4, Level::High));
        uart.write(at::ICR, Width::Word, 0x7ff);
        assert_eq!(uart.line(), Level::High, "what is there is still there");
        word(&mut uart, at::DR, &s);
        assert_eq!(uart.line(), Level::Low);
    }

    #[test]
    fn it_takes_no_more_than_its_fifo_holds() {
        for (control, depth) in [(0x10, 32), (0, 1)] {
            let (mut uart, s) = (Pl011::new(), Double::new(1));
            uart.write(at::LCR_H, Width::Word, control);
            s.type_in(&[b'x'; 40]);
            uart.typed();
            assert_eq!(word(&mut uart, at::FR, &s), 1 << 7 | 1 << 6, "full");
            assert_eq!(s.untyped(), 40 - depth);
            let all =
                core::iter::from_fn(|| (word(&mut uart, at::FR, &s) & 0x10 == 0).then(|| word(&mut uart, at::DR, &s)));
            assert_eq!(all.collect::<Vec<_>>(), [u64::from(b'x'); 40], "the rest follows");
            assert_eq!(word(&mut uart, at::DR, &s), 0, "nothing more");
        }
    }

    #[test]
    fn halves_and_bytes_of_registers_may_be_used_and_nothing_else() {
        let (mut uart, s) = (Pl011::new(), Double::new(1));
        assert_eq!(uart.write(at::DR, Width::Byte, 0xffff_ff41), Effect::Send(0x41));
        assert_eq!(uart.write(at::DR, Width::Double, 0x41), Effect::None);
        assert_eq!(uart.write(1, Width::Byte, 0x41), Effect::None);
        uart.write(at::IBRD, Width::Half, 0x1_2345);
        assert_eq!((word(&mut uart, at::IBRD, &s), uart.read(at::IBRD, Width::Byte, &s)), (0x2345, 0x45));
        assert_eq!(uart.read(at::IBRD, Width::Double, &s), 0);
    }
}
