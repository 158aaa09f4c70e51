//! Breakpoints, watchpoints and MDSCR_EL1 (DDI 0487, D19.3), lent at their first use in a turn, or from its beginning if the
//! guest has debug exceptions on.
//!
//! While they are not lent they hold nothing: MDSCR_EL1 is 0, which is what makes all others ineffective, and every access
//! traps. The OS lock is kept here always; the hardware's own follows while the rest is lent. The communication channel's data
//! registers (DBGDTR*) are shared with an external debugger, and belong to no guest.

/// How many of each there may be.
const MOST: usize = 16;

/// MDSCR_EL1: software step (SS), debug exceptions from EL1 (KDE), breakpoints and watchpoints (MDE).
const EFFECTIVE: u64 = 1 | 1 << 13 | 1 << 15;

/// One vCPU's debug registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    mdscr: u64,
    /// DBGBVR\<n\>_EL1, DBGBCR\<n\>_EL1, DBGWVR\<n\>_EL1, DBGWCR\<n\>_EL1.
    breakpoints: [[u64; 4]; MOST],
    /// OSLSR_EL1.OSLK.
    pub os_lock: OsLock,
}

/// The OS lock, which keeps debug exceptions from being taken while its holder saves the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OsLock {
    /// Open.
    Open,
    /// Held, as after a reset.
    Held,
}

impl OsLock {
    /// After a write of `value` to OSLAR_EL1.
    #[must_use]
    pub const fn written(value: u64) -> Self {
        if value & 1 != 0 { Self::Held } else { Self::Open }
    }

    /// OSLSR_EL1: the lock is implemented (OSLM = 0b10).
    #[must_use]
    pub const fn status(self) -> u64 {
        match self {
            Self::Open => 8,
            Self::Held => 8 | 2,
        }
    }
}

impl Registers {
    /// Nothing is set, and the lock is held.
    pub const RESET: Self = Self { mdscr: 0, breakpoints: [[0; 4]; MOST], os_lock: OsLock::Held };

    /// True if the guest waits for something that only the hardware notices.
    #[must_use]
    pub const fn is_effective(&self) -> bool {
        self.mdscr & EFFECTIVE != 0
    }
}

#[cfg(target_arch = "aarch64")]
mod here {
    #![expect(unsafe_code, reason = "debug registers that aarch64-cpu has not")]

    use aarch64_cpu::registers::{MDSCR_EL1, OSLAR_EL1, Readable as _, Writeable as _};

    use super::{OsLock, Registers};
    use crate::vcpu::guards::Extras;

    macro_rules! move_all {
        ($registers:expr, $extras:expr, $move:ident: $($n:literal)*) => {
            $(
                if $n < $extras.breakpoints {
                    $move!($registers.breakpoints[$n][0], $n, "_4");
                    $move!($registers.breakpoints[$n][1], $n, "_5");
                }
                if $n < $extras.watchpoints {
                    $move!($registers.breakpoints[$n][2], $n, "_6");
                    $move!($registers.breakpoints[$n][3], $n, "_7");
                }
            )*
        };
    }

    macro_rules! read {
        ($field:expr, $n:literal, $op2:literal) => {
            // SAFETY: reading has no effect, and the processor has this many.
            unsafe { core::arch::asm!(concat!("mrs {}, S2_0_C0_C", $n, $op2), out(reg) $field, options(nomem, nostack)) }
        };
    }

    macro_rules! write {
        ($field:expr, $n:literal, $op2:literal) => {
            // SAFETY: MDSCR_EL1 governs their effect, which is on the guest: EL2 takes no debug exceptions (MDCR_EL2.TDE = 0).
            unsafe { core::arch::asm!(concat!("msr S2_0_C0_C", $n, $op2, ", {}"), in(reg) $field, options(nomem, nostack)) }
        };
    }

    impl Registers {
        /// From the CPU, where they have no effect afterwards.
        pub fn save(&mut self, extras: &Extras) {
            self.mdscr = MDSCR_EL1.get();
            MDSCR_EL1.set(0);
            move_all!(self, extras, read: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        }

        /// To the CPU.
        pub fn load(&self, extras: &Extras) {
            move_all!(self, extras, write: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            self.lock_here();
            MDSCR_EL1.set(self.mdscr);
        }

        /// Makes the hardware's OS lock this vCPU's.
        pub fn lock_here(&self) {
            OSLAR_EL1.set(match self.os_lock {
                OsLock::Open => 0,
                OsLock::Held => 1,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OsLock, Registers};

    #[test]
    fn the_lock_is_held_until_it_is_opened() {
        assert_eq!(Registers::RESET.os_lock.status(), 0b1010);
        assert_eq!(OsLock::written(0).status(), 0b1000);
        assert_eq!(OsLock::written(1), OsLock::Held);
        assert_eq!(OsLock::written(2), OsLock::Open, "one bit counts");
    }

    #[test]
    fn only_what_the_hardware_has_to_notice_is_loaded_ahead() {
        let with = |mdscr| Registers { mdscr, ..Registers::RESET }.is_effective();
        assert!(!with(0) && !with(1 << 12), "EL0's way to the communication channel");
        assert!(with(1) && with(1 << 13) && with(1 << 15));
    }
}
