//! The ways in which a run ends: well, refused, or by a failure of Trivet's own.

use core::panic::PanicInfo;

use backend_x86::host::acpi::PowerOff;
use backend_x86::host::power;
use backend_x86::host::vectors::Trap;
use board_kit::ends;
use hv_core::machine::Verdict;
use spin::Once;

use crate::{HYPERVISOR, Pc};

/// How the machine is switched off where no emulator listens.
static POWER_OFF: Once<PowerOff> = Once::new();

/// Tells how. Once, as soon as firmware's tables have been read.
pub fn end_by(how: PowerOff) {
    POWER_OFF.call_once(|| how);
}

/// Ends the run: with a status, if an emulator takes one.
pub fn power_off(verdict: Verdict) -> ! {
    power::end(verdict, POWER_OFF.get().copied())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    ends::report::<Pc>(&HYPERVISOR, info)
}

/// An exception that the hypervisor itself should never take.
#[unsafe(no_mangle)]
extern "C" fn trivet_trap(trap: &Trap) -> ! {
    ends::report::<Pc>(&HYPERVISOR, trap)
}
