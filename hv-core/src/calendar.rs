//! Dates and seconds: clocks of firmware, of boards and of guests are calendars, ours counts.

const DAY: u64 = 86_400;
/// The last year that fits four digits, which is all that a guest's calendar knows.
const LAST_YEAR: u32 = 9999;
/// Days from 1 March of year 0 to 1 January 1970.
const EPOCH: u64 = 719_468;
/// Days in 400 years.
const ERA: u64 = 146_097;

/// A point in time. Months and days count from 1, and there are no leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The year, all four digits of it.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
}

/// Seconds since 1970 of a date and time; `None` for what is none, and for years before 1970 or after 9999.
#[must_use]
pub fn to_seconds(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Option<u64> {
    Moment { year, month, day, hour, minute, second }.seconds()
}

impl Moment {
    /// From seconds since 1970; `None` after the year 9999.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Option<Self> {
        // Years begin in March here, so that the leap day is a year's last.
        let day = seconds / DAY + EPOCH;
        let (era, day) = (day / ERA, day % ERA);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = u32::try_from(era * 400 + year + carry).ok().filter(|&y| y <= LAST_YEAR)?;
        let second = seconds % DAY;
        let small = |v: u64| u32::try_from(v).ok();
        Some(Self {
            year,
            month: small(month)?,
            day: small(day)?,
            hour: small(second / 3600)?,
            minute: small(second / 60 % 60)?,
            second: small(second % 60)?,
        })
    }

    /// Seconds since 1970; `None` for what is no date, and for years before 1970 or after 9999.
    #[must_use]
    pub fn seconds(&self) -> Option<u64> {
        let valid = (1970..=LAST_YEAR).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=self.days_in_month()).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60;
        if !valid {
            return None;
        }
        let (year, month) = (u64::from(self.year), u64::from(self.month));
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let day = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + u64::from(self.day) - 1;
        let time = u64::from(self.hour * 3600 + self.minute * 60 + self.second);
        Some((day - EPOCH) * DAY + time)
    }

    const fn is_leap(&self) -> bool {
        self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400))
    }

    const fn days_in_month(&self) -> u32 {
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if self.is_leap() => 29,
            2 => 28,
            _ => 31,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY, Moment};

    const fn at(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Moment {
        Moment { year, month, day, hour, minute, second }
    }

    #[test]
    fn known_moments() {
        for (seconds, moment) in [
            (0, at(1970, 1, 1, 0, 0, 0)),
            (951_782_399, at(2000, 2, 28, 23, 59, 59)),
            (951_782_400, at(2000, 2, 29, 0, 0, 0)),
            (1_000_000_000, at(2001, 9, 9, 1, 46, 40)),
            (4_107_542_400, at(2100, 3, 1, 0, 0, 0)),
            (253_402_300_799, at(9999, 12, 31, 23, 59, 59)),
        ] {
            assert_eq!(Moment::from_seconds(seconds), Some(moment));
            assert_eq!(moment.seconds(), Some(seconds));
        }
    }

    #[test]
    fn every_day_goes_there_and_back_and_follows_the_one_before() {
        let mut last = at(1969, 12, 31, 0, 0, 0);
        for day in 0..=253_402_214_400 / DAY {
            let m = Moment::from_seconds(day * DAY).unwrap();
            assert_eq!(m.seconds(), Some(day * DAY));
            let next = (last.year, last.month, last.day + 1) == (m.year, m.month, m.day);
            let month = last.day == last.days_in_month() && m.day == 1;
            assert!(next || month, "{last:?} {m:?}");
            last = m;
        }
    }

    #[test]
    fn r26_what_is_no_date_is_refused() {
        for bad in [
            at(1969, 12, 31, 0, 0, 0),
            at(10_000, 1, 1, 0, 0, 0),
            at(u32::MAX, 1, 1, 0, 0, 0),
            at(2023, 0, 1, 0, 0, 0),
            at(2023, 13, 1, 0, 0, 0),
            at(2023, 2, 29, 0, 0, 0),
            at(2100, 2, 29, 0, 0, 0),
            at(2023, 4, 31, 0, 0, 0),
            at(2023, 1, 0, 0, 0, 0),
            at(2023, 1, 1, 24, 0, 0),
            at(2023, 1, 1, 0, 60, 0),
            at(2023, 1, 1, 0, 0, 60),
        ] {
            assert_eq!(bad.seconds(), None, "{bad:?}");
        }
        assert_eq!(Moment::from_seconds(253_402_300_800), None);
        assert_eq!(Moment::from_seconds(u64::MAX), None);
    }
}
