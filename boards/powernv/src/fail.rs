//! Firmware, and the ways in which a run ends: well, refused, or by a failure of Trivet's own.

use core::panic::PanicInfo;

use backend_ppc64::bare::opal::Opal;
use backend_ppc64::boot::vectors::Trap;
use board_kit::ends;
use hv_core::machine::Verdict;
use spin::Once;

use crate::{HYPERVISOR, Powernv};

/// Firmware, once it is known.
static FIRMWARE: Once<Opal> = Once::new();

/// Tells where firmware is. Once, before anything else.
pub fn end_by(opal: Opal) {
    FIRMWARE.call_once(|| opal);
}

/// Firmware. Whoever asks before it is known has nobody to tell what went wrong.
pub fn firmware() -> &'static Opal {
    loop {
        if let Some(opal) = FIRMWARE.get() {
            return opal;
        }
    }
}

/// Ends the run. The machine has no status to leave behind, so the console's last line is the verdict.
pub fn power_off(verdict: Verdict) -> ! {
    ends::last_line(firmware(), verdict);
    firmware().power_off()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    ends::report::<Powernv>(&HYPERVISOR, info)
}

/// An interrupt that the hypervisor itself should never take.
#[unsafe(no_mangle)]
extern "C" fn trivet_trap(trap: &Trap) -> ! {
    ends::report::<Powernv>(&HYPERVISOR, trap)
}
