//! How fast a counter counts, by another one whose speed is known. Pure.
//!
//! Whoever measures may lose the CPU at any time, beneath us, and for longer than the measurement was to take. So both counters
//! are read together, several times, and the reading that took least counts, at the beginning and at the end; how long it
//! was between the two does not matter, as long as the known counter has not come round.

/// A counter that counts up.
pub trait Counter {
    /// Ticks in a second.
    fn hz(&self) -> u64;
    /// It comes round after this value.
    fn mask(&self) -> u32;
    /// Begins to count, if it has to be told.
    fn begin(&mut self);
    /// The value; `None` if it may have come round.
    fn read(&mut self) -> Option<u32>;
}

/// Readings, of which one counts.
const READINGS: u32 = 8;
/// A measurement takes a two-hundredth of a second.
pub const PART: u64 = 200;
/// How often a counter that has come round is asked again.
const TIMES: u32 = 20;
/// Ticks of the unknown counter in which the known one has to move, or it is none.
const PATIENCE: u64 = 1 << 34;

/// Ticks of the counter that `tsc` reads in a second. `None` if `known` does not count.
pub fn compare(known: &mut dyn Counter, tsc: &mut dyn FnMut() -> u64) -> Option<u64> {
    let mut once = || {
        known.begin();
        let (first, begin) = reading(known, tsc)?;
        loop {
            let now = known.read()?;
            if u64::from(passed(known, now, first)) >= known.hz() / PART {
                break;
            }
            if tsc().wrapping_sub(begin) > PATIENCE {
                return None;
            }
        }
        let (last, end) = reading(known, tsc)?;
        Some(end.wrapping_sub(begin).saturating_mul(known.hz()) / u64::from(passed(known, last, first)))
    };
    (0..TIMES).find_map(|_| once())
}

fn passed(counter: &dyn Counter, now: u32, then: u32) -> u32 {
    (now.wrapping_sub(then) & counter.mask()).max(1)
}

/// Both counters' values at one time, or nearly so.
fn reading(known: &mut dyn Counter, tsc: &mut dyn FnMut() -> u64) -> Option<(u32, u64)> {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..READINGS {
        let before = tsc();
        let value = known.read()?;
        let took = tsc().wrapping_sub(before);
        if took < best.0 {
            best = (took, value, before.wrapping_add(took / 2));
        }
    }
    Some((best.1, best.2))
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::{Counter, compare};

    /// Nanoseconds, and whoever looks at the time spends some; now and then a great many.
    struct World {
        now: Cell<u64>,
        looks: Cell<u64>,
        stolen: u64,
        /// After so many looks nobody takes anything any more.
        busy: u64,
    }

    impl World {
        fn look(&self) -> u64 {
            self.looks.set(self.looks.get() + 1);
            // One look in five, and not in step with the readings.
            let is_stolen = self.looks.get().is_multiple_of(5) && self.looks.get() < self.busy;
            let stolen = if is_stolen { self.stolen } else { 0 };
            self.now.set(self.now.get() + 300 + stolen);
            self.now.get()
        }
    }

    struct Known<'w, const MASK: u32>(&'w World, u64);

    impl<const MASK: u32> Counter for Known<'_, MASK> {
        fn hz(&self) -> u64 {
            1_193_182
        }
        fn mask(&self) -> u32 {
            MASK
        }
        fn begin(&mut self) {
            self.1 = self.0.look();
        }
        fn read(&mut self) -> Option<u32> {
            let ticks = (self.0.look() - self.1) * self.hz() / 1_000_000_000;
            (ticks <= MASK.into()).then_some(ticks as u32)
        }
    }

    fn measure<const MASK: u32>(stolen: u64, busy: u64) -> Option<u64> {
        let world = World { now: Cell::new(5), looks: Cell::new(0), stolen, busy };
        // 2.5 GHz.
        compare(&mut Known::<MASK>(&world, 0), &mut || world.look() * 5 / 2)
    }

    #[test]
    fn who_loses_the_cpu_now_and_then_measures_well_all_the_same() {
        for stolen in [0, 1_000, 50_000, 3_000_000] {
            let hz = measure::<0xff_ffff>(stolen, u64::MAX).unwrap();
            assert!(hz.abs_diff(2_500_000_000) < 2_500_000, "{hz} with {stolen}");
        }
    }

    #[test]
    fn a_counter_that_has_come_round_is_asked_again_and_in_the_end_not_believed() {
        assert!(measure::<0xffff>(90_000_000, 30).is_some());
        assert_eq!(measure::<0xffff>(90_000_000, u64::MAX), None);
        assert_eq!(measure::<0>(0, 0), None, "one that is over at once");
    }

    #[test]
    fn a_counter_that_stands_still_is_none() {
        struct Still;
        impl Counter for Still {
            fn hz(&self) -> u64 {
                1_000_000
            }
            fn mask(&self) -> u32 {
                u32::MAX
            }
            fn begin(&mut self) {}
            fn read(&mut self) -> Option<u32> {
                Some(u32::MAX)
            }
        }
        let mut now = 0;
        assert_eq!(
            compare(&mut Still, &mut || {
                now += 1 << 30;
                now
            }),
            None
        );
    }
}
