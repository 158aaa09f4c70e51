//! The local APIC's timer as data: when it is due, in the machine's ticks, and what its registers show.
//!
//! It counts at the rate of the time-stamp counter, before its divider: so the guest is told (CPUID leaf 0x15 gives the same
//! number for crystal and counter), and no rate is ever converted. (SDM volume 3, "APIC Timer" and "TSC-Deadline Mode".)

use hv_core::machine::Instant;

/// Now, as the machine and as the guest count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The machine's time.
    pub now: Instant,
    /// What is added to it to get the guest's time-stamp counter.
    pub offset: u64,
}

impl Clock {
    /// The guest's time-stamp counter.
    #[must_use]
    pub const fn tsc(self) -> u64 {
        self.now.0.wrapping_add(self.offset)
    }
}

/// Bits 18:17 of the timer's local vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Fires when the count reaches 0, once.
    OneShot,
    /// The same, and begins again.
    Periodic,
    /// Fires when the time-stamp counter reaches a value.
    Deadline,
    /// Never fires.
    Reserved,
}

impl Mode {
    /// From the local vector.
    #[must_use]
    pub const fn of(lvt: u32) -> Self {
        match lvt >> 17 & 3 {
            0 => Self::OneShot,
            1 => Self::Periodic,
            2 => Self::Deadline,
            _ => Self::Reserved,
        }
    }

    const fn counts(self) -> bool {
        matches!(self, Self::OneShot | Self::Periodic)
    }
}

/// The timer.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    mode: Mode,
    /// Initial count register.
    initial: u32,
    /// Divide configuration register.
    divide: u32,
    /// IA32_TSC_DEADLINE.
    deadline: u64,
    /// When it is due; `None` if it is not armed.
    end: Option<Instant>,
    /// The shortest period in ticks: a guest may ask for a tick at every instruction, but does not get it.
    floor: u64,
}

/// Periods are not shorter than a second by this: a guest gets on in between, on an emulated processor too.
const MAX_RATE: u64 = 5_000;

impl Timer {
    /// After reset, on a machine with so many ticks a second.
    #[must_use]
    pub fn new(ticks_per_second: u64) -> Self {
        let floor = (ticks_per_second / MAX_RATE).max(1);
        Self { mode: Mode::OneShot, initial: 0, divide: 0, deadline: 0, end: None, floor }
    }

    /// After INIT.
    pub const fn reset(&mut self) {
        *self = Self { mode: Mode::OneShot, initial: 0, divide: 0, deadline: 0, end: None, ..*self };
    }

    /// When it is due; masked or not.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.end
    }

    /// Takes an expiry that has come: true if the timer's interrupt is to be raised. Periods that were missed are missed.
    pub fn expire(&mut self, now: Instant) -> bool {
        let Some(end) = self.end.filter(|end| *end <= now) else { return false };
        self.end = None;
        match self.mode {
            Mode::Periodic => {
                let period = self.period().max(self.floor);
                let late = now.0.saturating_sub(end.0) % period;
                self.end = Some(Instant(now.0 - late).after(period));
            }
            Mode::Deadline => self.deadline = 0,
            Mode::OneShot | Mode::Reserved => {}
        }
        true
    }

    /// The local vector was written. Going to or from deadlines stops the timer.
    pub fn set_mode(&mut self, mode: Mode) {
        if self.mode.counts() != mode.counts() {
            (self.end, self.deadline, self.initial) = (None, 0, 0);
        }
        self.mode = mode;
    }

    /// The initial count register is written: the timer starts, or stops if it is 0.
    pub fn start(&mut self, count: u32, now: Instant) {
        if self.mode.counts() {
            self.initial = count;
            self.end = (count != 0).then(|| now.after(self.period()));
        }
    }

    /// The initial count register.
    #[must_use]
    pub const fn initial(&self) -> u32 {
        self.initial
    }

    /// The current count register.
    #[must_use]
    pub fn current(&self, now: Instant) -> u32 {
        match self.end {
            Some(end) if self.mode.counts() => {
                let left = end.0.saturating_sub(now.0).div_ceil(self.divisor());
                u32::try_from(left).unwrap_or(u32::MAX).min(self.initial)
            }
            _ => 0,
        }
    }

    /// The divide configuration register.
    #[must_use]
    pub const fn divide(&self) -> u32 {
        self.divide
    }

    /// The same is written; what is left is counted down at the new rate.
    pub fn set_divide(&mut self, value: u32, now: Instant) {
        let left = self.current(now);
        self.divide = value & 0b1011;
        if self.end.is_some() && self.mode.counts() {
            self.end = Some(now.after(u64::from(left) * self.divisor()));
        }
    }

    /// IA32_TSC_DEADLINE: 0 when nothing is armed.
    #[must_use]
    pub const fn deadline(&self) -> u64 {
        self.deadline
    }

    /// The same is written; without effect in the other modes.
    pub fn set_deadline(&mut self, tsc: u64, clock: Clock) {
        if self.mode == Mode::Deadline {
            self.deadline = tsc;
            // A deadline that has passed is due at once.
            self.end = (tsc != 0).then(|| clock.now.after(tsc.saturating_sub(clock.tsc())));
        }
    }

    /// The guest's time-stamp counter was set: a deadline is about the new one.
    pub fn retime(&mut self, clock: Clock) {
        if self.end.is_some() {
            self.set_deadline(self.deadline, clock);
        }
    }

    /// Ticks to one count: 2, 4, ... 128 for 0, 1, ... 6, and 1 for 7; bit 2 of the register is not part of the number.
    const fn divisor(&self) -> u64 {
        let number = self.divide >> 1 & 4 | self.divide & 3;
        if number == 7 { 1 } else { 2 << number }
    }

    const fn period(&self) -> u64 {
        self.initial as u64 * self.divisor()
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Mode, Timer};
    use hv_core::machine::Instant;

    /// Divides by 16, with a floor of 50 ticks.
    fn timer(mode: Mode) -> Timer {
        let mut timer = Timer::new(250_000);
        timer.set_mode(mode);
        timer.set_divide(3, Instant(0));
        timer
    }

    #[test]
    fn one_shot_counts_down_and_stays_at_zero() {
        let mut t = timer(Mode::OneShot);
        t.start(10, Instant(1000));
        assert_eq!((t.due(), t.current(Instant(1000)), t.current(Instant(1017))), (Some(Instant(1160)), 10, 9));
        assert!(!t.expire(Instant(1159)) && t.current(Instant(1159)) == 1);
        assert!(t.expire(Instant(1160)) && !t.expire(Instant(5000)));
        assert_eq!((t.due(), t.current(Instant(1160)), t.initial()), (None, 0, 10));
        t.start(10, Instant(0));
        t.start(0, Instant(1));
        assert_eq!(t.due(), None);
    }

    #[test]
    fn periods_keep_their_phase_and_missed_ones_are_missed() {
        let mut t = timer(Mode::Periodic);
        t.start(10, Instant(0));
        assert!(t.expire(Instant(165)));
        assert_eq!(t.due(), Some(Instant(320)));
        assert!(t.expire(Instant(1000)));
        assert_eq!((t.due(), t.current(Instant(1000))), (Some(Instant(1120)), 8));
    }

    #[test]
    fn a_period_has_a_floor() {
        let mut t = timer(Mode::Periodic);
        t.start(1, Instant(0));
        assert!(t.expire(Instant(16)));
        assert_eq!(t.due(), Some(Instant(66)));
        assert!(Timer::new(0).floor == 1 && !t.expire(Instant(65)));
    }

    #[test]
    fn every_divider_is_what_the_manual_says() {
        let mut t = timer(Mode::OneShot);
        for (value, divisor) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
            t.set_divide(value | 0xffff_fff4, Instant(0));
            t.start(3, Instant(0));
            assert_eq!((t.due(), t.divide()), (Some(Instant(3 * divisor)), value));
        }
        t.set_divide(0, Instant(2));
        assert_eq!(t.due(), Some(Instant(4)), "one count is left, of two ticks now");
    }

    #[test]
    fn deadlines_are_about_the_guests_own_counter() {
        let mut t = timer(Mode::Deadline);
        let clock = |now: u64, offset: i64| Clock { now: Instant(now), offset: offset as u64 };
        t.start(5, Instant(0));
        assert_eq!((t.due(), t.initial()), (None, 0), "no count in this mode");
        t.set_deadline(600, clock(1000, -500));
        assert_eq!((t.due(), t.deadline(), t.current(Instant(1000))), (Some(Instant(1100)), 600, 0));
        t.retime(clock(1000, -900));
        assert_eq!(t.due(), Some(Instant(1500)));
        assert!(t.expire(Instant(1500)));
        assert_eq!((t.due(), t.deadline()), (None, 0));
        t.set_deadline(1, clock(2000, 0));
        assert!(t.expire(Instant(2000)), "long past");
        t.set_deadline(u64::MAX, clock(2000, 0));
        t.set_mode(Mode::OneShot);
        t.set_deadline(7, clock(0, 0));
        assert_eq!((t.due(), t.deadline()), (None, 0));
    }
}
