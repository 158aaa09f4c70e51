//! What is left of the PC's timer (Intel 8254) and of port 0x61: channel 2, by which systems measure the rate of the time-stamp
//! counter where the processor does not tell it. Channels 0 and 1 are not there: clock interrupts come from the local APIC.
//!
//! The count is not kept but worked out from the machine's clock when it is asked for.

use hv_core::machine::Instant;

/// Channel 2's count, the command register, and the gate.
pub const COUNT: u16 = 0x42;
/// Which channel, how it is accessed, its mode.
pub const COMMAND: u16 = 0x43;
/// Bit 0: channel 2's gate; bit 1: speaker; bit 5: channel 2's output.
pub const GATE: u16 = 0x61;

/// Counts in a second.
const RATE: u64 = 1_193_182;
const GATE_BITS: u8 = 0b11;
const GATE_ON: u8 = 0b01;
const OUTPUT: u8 = 1 << 5;

/// Which byte of a count the next access is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bytes {
    Low,
    High,
    /// Both, the lower one first.
    Both,
}

/// How it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Mode 0: down once; the output rises at 0, and the count goes on.
    Once,
    /// Modes 2 and 3: again and again. The difference is in the output's form, which nobody measures.
    Again,
}

/// Now, and how fast that goes.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    /// The machine's time.
    pub now: Instant,
    /// Its rate; not 0.
    pub per_second: u64,
}

/// Channel 2.
#[derive(Debug)]
pub struct Pit {
    mode: Mode,
    bytes: Bytes,
    /// The first byte of two has been read, or written.
    second_read: bool,
    second_write: Option<u8>,
    /// Counts from where it starts: 1 to 65536; `None` before the first.
    load: Option<u32>,
    /// How far it had counted when `since` was.
    counted: u64,
    /// Since when it counts; `None` while the gate is off.
    since: Option<Instant>,
    latched: Option<u16>,
    gate: u8,
}

impl Pit {
    /// After reset: it counts nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: Mode::Once,
            bytes: Bytes::Both,
            second_read: false,
            second_write: None,
            load: None,
            counted: 0,
            since: None,
            latched: None,
            gate: 0,
        }
    }

    /// Reads a port; `None` if it is none of these.
    pub fn read(&mut self, port: u16, ticks: Ticks) -> Option<u8> {
        match port {
            COUNT => Some(self.read_count(ticks)),
            GATE => Some(self.gate | if self.output(ticks) { OUTPUT } else { 0 }),
            // The command register cannot be read.
            _ => None,
        }
    }

    /// Writes a port.
    pub fn write(&mut self, port: u16, value: u8, ticks: Ticks) {
        match port {
            COUNT => self.write_count(value, ticks),
            COMMAND => self.command(value, ticks),
            GATE => self.set_gate(value & GATE_BITS, ticks),
            _ => {}
        }
    }

    fn command(&mut self, value: u8, ticks: Ticks) {
        if value >> 6 != 2 {
            return;
        }
        self.bytes = match value >> 4 & 3 {
            0 => {
                self.latched = self.latched.or(Some(self.count(ticks)));
                return;
            }
            1 => Bytes::Low,
            2 => Bytes::High,
            _ => Bytes::Both,
        };
        self.mode = if value >> 1 & 7 == 0 { Mode::Once } else { Mode::Again };
        (self.second_read, self.second_write, self.latched, self.load) = (false, None, None, None);
    }

    fn write_count(&mut self, value: u8, ticks: Ticks) {
        let count = match (self.bytes, self.second_write.take()) {
            (Bytes::Low, _) => u16::from(value),
            (Bytes::High, _) => u16::from(value) << 8,
            (Bytes::Both, None) => {
                self.second_write = Some(value);
                return;
            }
            (Bytes::Both, Some(low)) => u16::from_le_bytes([low, value]),
        };
        self.load = Some(if count == 0 { 0x1_0000 } else { count.into() });
        self.counted = 0;
        self.since = (self.gate & GATE_ON != 0).then_some(ticks.now);
    }

    fn read_count(&mut self, ticks: Ticks) -> u8 {
        let count = self.latched.unwrap_or_else(|| self.count(ticks));
        let [low, high] = count.to_le_bytes();
        let first = self.bytes == Bytes::Both && !self.second_read;
        self.second_read = first;
        if !first {
            self.latched = None;
        }
        if first || self.bytes == Bytes::Low { low } else { high }
    }

    fn set_gate(&mut self, gate: u8, ticks: Ticks) {
        if (gate ^ self.gate) & GATE_ON != 0 {
            self.counted = self.elapsed(ticks);
            self.since = (gate & GATE_ON != 0).then_some(ticks.now);
        }
        self.gate = gate;
    }

    /// How many counts have gone by since the start.
    fn elapsed(&self, ticks: Ticks) -> u64 {
        let Some(since) = self.since else { return self.counted };
        let time = ticks.now.0.saturating_sub(since.0);
        self.counted.saturating_add(counts(time, RATE, ticks.per_second))
    }

    fn count(&self, ticks: Ticks) -> u16 {
        let (load, elapsed) = (u64::from(self.load.unwrap_or(0)), self.elapsed(ticks));
        match (self.load, self.mode) {
            (None, _) => 0,
            (Some(_), Mode::Once) => load.wrapping_sub(elapsed) as u16,
            (Some(_), Mode::Again) => (load - elapsed % load) as u16,
        }
    }

    fn output(&self, ticks: Ticks) -> bool {
        match (self.load, self.mode) {
            (Some(load), Mode::Once) => self.elapsed(ticks) >= load.into(),
            (None, Mode::Once) => false,
            (_, Mode::Again) => true,
        }
    }
}

/// What counts so many times in a second has counted in so many ticks.
#[inline(never)] // for size
pub(super) fn counts(ticks: u64, rate: u64, per_second: u64) -> u64 {
    let per_second = per_second.max(1);
    // Below a second nothing overflows: rates are of a few MHz.
    let (seconds, rest) = (ticks / per_second, ticks % per_second);
    seconds.saturating_mul(rate).saturating_add(rest.saturating_mul(rate) / per_second)
}

impl Default for Pit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMAND, COUNT, GATE, Pit, Ticks};
    use hv_core::machine::Instant;
    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::{prop_assert, proptest};

    /// A machine with a thousand ticks to a count.
    fn at(counts: u64) -> Ticks {
        Ticks { now: Instant(counts * 1000), per_second: 1_193_182_000 }
    }

    fn started(load: [u8; 2]) -> Pit {
        let mut pit = Pit::new();
        pit.write(GATE, 1, at(0));
        pit.write(COMMAND, 0xb0, at(0));
        load.into_iter().for_each(|byte| pit.write(COUNT, byte, at(10)));
        pit
    }

    fn count(pit: &mut Pit, ticks: Ticks) -> u16 {
        let low = pit.read(COUNT, ticks).unwrap();
        u16::from_le_bytes([low, pit.read(COUNT, ticks).unwrap()])
    }

    #[test]
    fn the_output_rises_when_the_count_is_over() {
        let mut pit = started([0x34, 0x12]);
        assert_eq!((count(&mut pit, at(10)), count(&mut pit, at(0x1000 + 10))), (0x1234, 0x234));
        assert_eq!((pit.read(GATE, at(0x1234 + 9)), pit.read(GATE, at(0x1234 + 10))), (Some(1), Some(0x21)));
        assert_eq!(count(&mut pit, at(0x1234 + 11)), 0xffff, "it goes on");
    }

    #[test]
    fn the_higher_byte_can_be_watched_fall() {
        let mut pit = started([0xff, 0xff]);
        let mut last = 0xff;
        for now in 10..0x800 {
            let _ = pit.read(COUNT, at(now));
            let high = pit.read(COUNT, at(now)).unwrap();
            assert!(high == last || high == last - 1);
            last = high;
        }
        assert_eq!(last, 0xf8);
    }

    #[test]
    fn the_gate_holds_it() {
        let mut pit = started([0, 1]);
        pit.write(GATE, 0, at(20));
        assert_eq!((count(&mut pit, at(1000)), pit.read(GATE, at(1000))), (0xf6, Some(0)));
        pit.write(GATE, 3, at(1000));
        assert_eq!((count(&mut pit, at(1001)), pit.read(GATE, at(1001))), (0xf5, Some(3)));
    }

    #[test]
    fn a_latched_count_stays_until_it_is_read() {
        let mut pit = started([0, 0]);
        pit.write(COMMAND, 0x80, at(11));
        pit.write(COMMAND, 0x80, at(12));
        assert_eq!(
            (count(&mut pit, at(500)), count(&mut pit, at(500))),
            (0xffff, 0x1_0000_u32.wrapping_sub(490) as u16)
        );
        // Again and again, one byte only.
        pit.write(COMMAND, 0x94, at(0));
        pit.write(COUNT, 100, at(0));
        assert_eq!(
            (pit.read(COUNT, at(99)), pit.read(COUNT, at(100)), pit.read(GATE, at(0))),
            (Some(1), Some(100), Some(0x21))
        );
        // Others' commands do nothing, and the command register reads as nothing.
        pit.write(COMMAND, 0x34, at(0));
        assert_eq!((pit.read(COUNT, at(99)), pit.read(COMMAND, at(0))), (Some(1), None));
    }

    proptest! {
        /// R26: nothing panics.
        #[test]
        fn r26_no_guest_can_break_it(acts in vec((0x40..0x62_u16, any::<u8>(), any::<u64>(), any::<bool>()), 1..100), rate in any::<u64>()) {
            let mut pit = Pit::new();
            for (port, value, now, write) in acts {
                let ticks = Ticks { now: Instant(now), per_second: rate };
                if write {
                    pit.write(port, value, ticks);
                } else {
                    let there = pit.read(port, ticks).is_some();
                    prop_assert!(there == (port == COUNT || port == GATE));
                }
            }
        }
    }
}
