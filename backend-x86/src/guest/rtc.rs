//! The calendar clock (Motorola MC146818A) at its two ports, as far as systems read the date from it when they start.
//!
//! It shows the machine's calendar ([`Services::wall_clock`]) in decimal digits, 24 hours to the day. It cannot be set, has no
//! alarm, no interrupt and no memory: what is written to other than the index is lost.

use hv_core::calendar::Moment;
use hv_core::sync::{AtomicU8, Ordering};
use hv_core::vcpu::services::Services;

/// Which register; bit 7 is about NMIs, and not part of it.
pub const INDEX: u16 = 0x70;
/// The register.
pub const DATA: u16 = 0x71;
/// The century's register, which the chip did not have.
pub const CENTURY: u8 = 0x32;

/// Register A: the oscillator runs, nothing is being updated. B: 24 hours, decimal digits. D: the battery is full.
const STATUS_A: u8 = 0x26;
const STATUS_B: u8 = 1 << 1;
const STATUS_D: u8 = 1 << 7;

/// The index is all that it keeps. Two vCPUs that use it at once disturb each other, as they would on the original.
#[derive(Debug)]
pub struct Rtc {
    index: AtomicU8,
}

impl Rtc {
    /// After reset.
    #[must_use]
    pub fn new() -> Self {
        Self { index: AtomicU8::new(0) }
    }

    /// The index is written.
    pub fn select(&self, value: u8) {
        self.index.store(value & 0x7f, Ordering::Relaxed);
    }

    /// The register is read.
    pub fn read(&self, s: &dyn Services) -> u8 {
        let index = self.index.load(Ordering::Relaxed);
        match index {
            0xa => return STATUS_A,
            0xb => return STATUS_B,
            0xd => return STATUS_D,
            _ => {}
        }
        let seconds = s.wall_clock();
        let Some(m) = Moment::from_seconds(seconds) else { return 0 };
        digits(match index {
            0 => m.second,
            2 => m.minute,
            4 => m.hour,
            // Sunday is 1, and 1970 began with a Thursday.
            6 => (seconds / 86_400 + 4).rem_euclid(7) as u32 + 1,
            7 => m.day,
            8 => m.month,
            9 => m.year % 100,
            CENTURY => m.year / 100,
            _ => 0,
        })
    }
}

impl Default for Rtc {
    fn default() -> Self {
        Self::new()
    }
}

/// Two decimal digits.
const fn digits(number: u32) -> u8 {
    ((number / 10 % 10) << 4 | (number % 10)) as u8
}

#[cfg(test)]
mod tests {
    use super::{CENTURY, Rtc};
    use proptest::prelude::any;
    use proptest::{prop_assert, proptest};
    use services_double::Double;

    const ALL: [u8; 8] = [0, 2, 4, 6, 7, 8, 9, CENTURY];

    fn show(rtc: &Rtc, s: &Double) -> [u8; 8] {
        ALL.map(|index| {
            rtc.select(index | 0x80);
            rtc.read(s)
        })
    }

    #[test]
    fn the_date_is_in_decimal_digits() {
        let (rtc, s) = (Rtc::new(), Double::new(1));
        assert_eq!(show(&rtc, &s), [0, 0, 0, 5, 1, 1, 0x70, 0x19], "a Thursday");
        // Saturday, 21 November 2026, 17:59:58.
        s.set_wall_clock(1_795_283_998);
        assert_eq!(show(&rtc, &s), [0x58, 0x59, 0x17, 7, 0x21, 0x11, 0x26, 0x20]);
        s.set_wall_clock(u64::MAX);
        assert_eq!(show(&rtc, &s), [0; 8], "no date that it could show");
    }

    #[test]
    fn it_is_never_in_the_middle_of_an_update() {
        let (rtc, s) = (Rtc::new(), Double::new(1));
        let read = |index| {
            rtc.select(index);
            rtc.read(&s)
        };
        assert_eq!([0xa, 0xb, 0xc, 0xd, 0x7f].map(read), [0x26, 2, 0, 0x80, 0]);
    }

    proptest! {
        #[test]
        fn r26_every_register_is_two_digits(seconds in any::<u64>(), shift in 0..64_u32, index in any::<u8>()) {
            let (rtc, s) = (Rtc::new(), Double::new(1));
            s.set_wall_clock(seconds >> shift);
            rtc.select(index);
            let value = rtc.read(&s);
            prop_assert!([0xa, 0xb, 0xd].contains(&(index & 0x7f)) || (value & 15 < 10 && value >> 4 < 10));
        }
    }
}
