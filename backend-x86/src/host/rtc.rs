//! The calendar clock (Motorola MC146818A), read once.

use hv_core::calendar::to_seconds;

/// Registers: the time, the date, the century where PCs have it, and two of status.
const CENTURY: u8 = 0x32;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
/// In A: the time is just being counted on.
const UPDATING: u8 = 1 << 7;
/// In B: 24 hours to the day; binary numbers.
const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;
/// In the hour, with 12 to the half day: the second half.
const AFTERNOON: u8 = 1 << 7;
/// Looks at a clock that is being counted on: that takes 2 ms.
const PATIENCE: u32 = 1 << 16;

/// Seconds since 1970 (UTC) by the clock that `read` reads the registers of; 0 if there is none, or it makes no sense.
pub fn seconds(mut read: impl FnMut(u8) -> u8) -> u64 {
    let mut once = || {
        (0..PATIENCE).find(|_| read(STATUS_A) & UPDATING == 0)?;
        Some([0, 2, 4, 7, 8, 9, CENTURY, STATUS_B].map(&mut read))
    };
    // Two looks that agree: it was not counted on between them.
    for _ in 0..4 {
        let (first, second) = (once(), once());
        if first == second {
            return first.and_then(|values| decode(&values)).unwrap_or(0);
        }
    }
    0
}

/// Second, minute, hour, day, month, year, century, and how they are written.
fn decode(&[second, minute, hour, day, month, year, century, how]: &[u8; 8]) -> Option<u64> {
    let number = |value: u8| match how & BINARY {
        0 if value & 0xf > 9 || value >> 4 > 9 => None,
        0 => Some(u32::from(value >> 4) * 10 + u32::from(value & 0xf)),
        _ => Some(value.into()),
    };
    let hour = match how & HOURS_24 {
        0 => number(hour & !AFTERNOON)? % 12 + if hour & AFTERNOON != 0 { 12 } else { 0 },
        _ => number(hour)?,
    };
    // Where there is no such register, it is this century.
    let century = number(century).filter(|century| (19..=99).contains(century)).unwrap_or(20);
    to_seconds(century * 100 + number(year)?, number(month)?, number(day)?, hour, number(minute)?, number(second)?)
}

#[cfg(test)]
mod tests {
    use super::{AFTERNOON, BINARY, CENTURY, HOURS_24, STATUS_A, STATUS_B, UPDATING, seconds};

    /// 2026-11-21 19:05:09 UTC.
    const THEN: u64 = 1_795_287_909;

    fn clock(registers: &[(u8, u8)]) -> u64 {
        seconds(|register| registers.iter().find(|(number, _)| *number == register).map_or(0, |(_, value)| *value))
    }

    #[test]
    fn the_date_is_read_however_it_is_written() {
        let digits =
            [(0, 0x09), (2, 0x05), (4, 0x19), (7, 0x21), (8, 0x11), (9, 0x26), (CENTURY, 0x20), (STATUS_B, HOURS_24)];
        assert_eq!(clock(&digits), THEN);
        let binary = [(0, 9), (2, 5), (4, 7 | AFTERNOON), (7, 21), (8, 11), (9, 26), (CENTURY, 0), (STATUS_B, BINARY)];
        assert_eq!(clock(&binary), THEN);
        let midnight = [(4, 0x12), (7, 1), (8, 1), (9, 0x70), (CENTURY, 0x19)];
        assert_eq!(clock(&midnight), 0, "twelve in the morning is none");
    }

    #[test]
    fn a_clock_that_makes_no_sense_is_none() {
        assert_eq!(seconds(|_| 0xff), 0, "always updating, or not there");
        assert_eq!(clock(&[]), 0, "no month");
        assert_eq!(clock(&[(7, 0x1f), (8, 0x11)]), 0, "no digit");
        let mut n = 0;
        let changing = |register| {
            n += 1;
            if register == STATUS_A { 0 } else { n }
        };
        assert_eq!(seconds(changing), 0);
    }

    #[test]
    fn nobody_reads_while_it_is_counted_on() {
        let mut busy = 3;
        let read = |register| match register {
            STATUS_A if busy > 0 => {
                busy -= 1;
                UPDATING
            }
            7 | 8 => 1,
            _ if busy > 0 => 0xff,
            9 => 0x26,
            _ => 0,
        };
        assert_eq!(seconds(read), 1_767_225_600);
    }
}
