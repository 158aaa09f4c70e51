//! Reads the calling CPU's identification registers.
#![expect(unsafe_code, reason = "identification registers that aarch64-cpu has not")]

use core::arch::asm;

use aarch64_cpu::registers::{CLIDR_EL1, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64MMFR2_EL1, Readable as _};

use crate::features::IdRegisters;

/// What they say.
pub fn registers() -> IdRegisters {
    let (ctr, dczid);
    // SAFETY: reads constants.
    unsafe {
        asm!("mrs {0}, ctr_el0", "mrs {1}, dczid_el0", out(reg) ctr, out(reg) dczid, options(nomem, nostack));
    }
    IdRegisters {
        mmfr0: ID_AA64MMFR0_EL1.get(),
        mmfr1: ID_AA64MMFR1_EL1.get(),
        mmfr2: ID_AA64MMFR2_EL1.get(),
        ctr,
        clidr: CLIDR_EL1.get(),
        dczid,
    }
}
