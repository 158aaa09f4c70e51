//! The clock that KVM's guest interface tells of (Linux, Documentation/virt/kvm/x86/msr.rst and cpuid.rst): a guest names a
//! place in its memory, and finds there how its time-stamp counter makes nanoseconds. So it need not measure the counter's
//! rate, which comes out wrong, or not at all, where the machine stops in the middle: an emulator's processor does.
//!
//! Called by [`super::pc`] for two registers. The time is the machine's: nanoseconds since its counter was 0. That is one
//! line for all vCPUs, whatever their counters' offsets, and it never bends. So a place is written when the register is and
//! never again; two writes of one place are alike, and the version in it, by which a guest would notice a change, stays even.
//! A guest that sets its counter writes the register again. Nothing else is kept of it: the registers read as 0.

use hv_core::addr::Gpa;
use hv_core::vcpu::services::{MemError, Services};

use crate::bus::GeneralProtection;

/// MSR_KVM_WALL_CLOCK_NEW: the date when the time was 0.
pub const WALL_CLOCK: u32 = 0x4b56_4d00;
/// MSR_KVM_SYSTEM_TIME_NEW: the time. Bit 0 asks for it.
pub const SYSTEM_TIME: u32 = 0x4b56_4d01;
/// The interface's features (leaf 4000_0001, EAX): these two registers, and that all vCPUs have the same time.
pub const FEATURES: u32 = 1 << 3 | 1 << 24;

const WANTED: u64 = 1 << 0;
/// An even number: nobody is writing.
const VERSION: [u8; 4] = 2_u32.to_le_bytes();
/// All vCPUs have the same time.
const STABLE: u8 = 1 << 0;
const SECOND: u64 = 1_000_000_000;

/// Whether the guest goes on after its instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It does.
    Done,
    /// Memory is short: it is to try again.
    Again,
}

/// The guest, whose time-stamp counter is `offset` ahead of the machine's, writes `value` to one of the two registers.
/// #GP where there is no memory.
#[cold]
pub fn tell(msr: u32, value: u64, offset: u64, s: &dyn Services) -> Result<Told, GeneralProtection> {
    let rate = s.ticks_per_second().max(1);
    let mut place = [0; 32];
    place[..4].copy_from_slice(&VERSION);
    let (at, room) = if msr == WALL_CLOCK {
        let seconds = s.wall_clock().saturating_sub(s.now().0 / rate);
        place[4..8].copy_from_slice(&(seconds as u32).to_le_bytes());
        (value, 12)
    } else {
        let (scale, shift) = nanoseconds(rate);
        place[8..16].copy_from_slice(&offset.to_le_bytes());
        place[24..28].copy_from_slice(&scale.to_le_bytes());
        (place[28], place[29]) = (shift as u8, STABLE);
        (value & !WANTED, if value & WANTED == 0 { 0 } else { 32 })
    };
    match s.write(Gpa(at), &place[..room]) {
        Ok(()) => Ok(Told::Done),
        Err(MemError::NoMemory) => Ok(Told::Again),
        Err(MemError::BadAddress) => Err(GeneralProtection),
    }
}

/// How ticks make nanoseconds: shifted left by the second number, or right where it is negative, times the first, by 2^32.
fn nanoseconds(per_second: u64) -> (u32, i8) {
    let (mut shifted, mut shift) = (per_second, 0);
    while shifted <= SECOND {
        (shifted, shift) = (shifted << 1, shift + 1);
    }
    while shifted > 2 * SECOND {
        (shifted, shift) = (shifted >> 1, shift - 1);
    }
    // From 2^31 on, and below 2^32: `shifted` is above a second's nanoseconds, and at most twice that.
    (((SECOND << 32) / shifted) as u32, shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::{prop_assert, proptest};
    use services_double::{Double, MEMORY};

    use super::{SECOND, SYSTEM_TIME, Told, WALL_CLOCK, nanoseconds, tell};
    use crate::bus::GeneralProtection;
    use hv_core::vcpu::services::Services as _;

    /// What a guest makes of a place, as the interface's documentation tells.
    fn time(place: [u8; 32], counter: u64) -> u64 {
        let word = |at: usize| u64::from_le_bytes(place[at..at + 8].try_into().unwrap());
        let (delta, shift) = (counter.wrapping_sub(word(8)), place[28] as i8);
        let delta = if shift < 0 { delta >> -shift } else { delta << shift };
        word(16) + ((u128::from(delta) * u128::from(word(24) as u32)) >> 32) as u64
    }

    #[test]
    fn a_guest_finds_the_time_whatever_its_counter_shows() {
        let s = Double::new(1);
        let second = s.ticks_per_second();
        for (offset, at) in [(0, 0x1000), (77_u64.wrapping_neg(), 0x1ff0), (1 << 60, 0x2004)] {
            assert_eq!(tell(SYSTEM_TIME, at | 1, offset, &s), Ok(Told::Done));
            let place = s.peek::<32>(at);
            assert_eq!((&place[..8], &place[29..]), (&[2, 0, 0, 0, 0, 0, 0, 0][..], &[1, 0, 0][..]));
            let shown = time(place, (5 * second).wrapping_add(offset));
            assert!(shown.abs_diff(5 * SECOND) < 10, "{shown}");
        }
    }

    #[test]
    fn the_date_is_of_when_the_time_was_0() {
        let s = Double::new(1);
        s.poke(0x3000, &[0xee; 16]);
        s.set_wall_clock(1_795_283_998);
        s.set_now(98 * s.ticks_per_second());
        assert_eq!(tell(WALL_CLOCK, 0x3000, 5, &s), Ok(Told::Done));
        assert_eq!((s.peek(0x3000), s.peek(0x3004)), ([2, 0, 0, 0], 1_795_283_900_u32.to_le_bytes()));
        assert_eq!((s.peek(0x3008), s.peek(0x300c)), ([0; 4], [0xee; 4]), "no more than that");
    }

    #[test]
    fn who_does_not_ask_gets_nothing_and_a_place_is_memory() {
        let s = Double::new(1);
        s.poke(0x1000, &[0xee; 32]);
        assert_eq!((tell(SYSTEM_TIME, 0x1000, 0, &s), s.peek(0x1000)), (Ok(Told::Done), [0xee; 32]));
        let end = MEMORY as u64;
        for (msr, value) in
            [(SYSTEM_TIME, (end - 30) | 1), (SYSTEM_TIME, u64::MAX), (WALL_CLOCK, end), (WALL_CLOCK, u64::MAX)]
        {
            assert_eq!(tell(msr, value, 0, &s), Err(GeneralProtection));
        }
    }

    #[test]
    fn where_memory_is_short_the_guest_tries_again() {
        let s = Double::new(1);
        s.set_short(true);
        assert_eq!([SYSTEM_TIME, WALL_CLOCK].map(|msr| tell(msr, 0x1001, 0, &s)), [Ok(Told::Again); 2]);
        s.set_short(false);
        assert_eq!(s.peek(0x1000), [0; 32], "nothing is there yet, and a rate of 0 would be divided by");
        assert_eq!((tell(SYSTEM_TIME, 0x1001, 0, &s), s.peek(0x1000)), (Ok(Told::Done), [2, 0, 0, 0]));
    }

    proptest! {
        /// Kernels take the rate from the scale, in kHz: it is to be right to 1 in 10^6, so that clocks agree.
        #[test]
        fn r26_any_rate_has_a_scale(rate in 1..u64::MAX, less in 0..64_u32) {
            let rate = (rate >> less).max(1);
            let (scale, shift) = nanoseconds(rate);
            prop_assert!(scale >= 1 << 31);
            // Nanoseconds of a second's ticks, times 2^32.
            let made = f64::from(scale) * rate as f64 * f64::from(shift).exp2() / 4_294_967_296.0;
            prop_assert!((made / 1e9 - 1.0).abs() < 1e-6, "{made}");
        }

        #[test]
        fn r26_whatever_is_written_is_answered(wall in any::<bool>(), value in any::<u64>(), high in 0..64_u32, offset in any::<u64>()) {
            let s = Double::new(1);
            let _ = tell(if wall { WALL_CLOCK } else { SYSTEM_TIME }, value >> high, offset, &s);
        }
    }
}
