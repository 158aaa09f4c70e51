//! The ways in which a run ends: well, refused, or by a failure of Trivet's own.

use core::panic::PanicInfo;

use backend_arm::el2::firmware;
use backend_arm::el2::inventory::Conduit;
use backend_arm::el2::vectors::Trap;
use board_kit::ends;
use hv_core::machine::Verdict;
use spin::Once;

use crate::{HYPERVISOR, Virt};

/// How firmware is called. Known long before there is a machine, so that a refusal ends the run too.
static CONDUIT: Once<Conduit> = Once::new();

/// Tells how a run is ended. Once, as soon as the device tree has been read.
pub fn end_by(conduit: Conduit) {
    CONDUIT.call_once(|| conduit);
}

/// Ends the run: with a status, if the emulator has semihosting.
pub fn power_off(verdict: Verdict) -> ! {
    firmware::end(verdict, CONDUIT.get().copied().unwrap_or_default())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    ends::report::<Virt>(&HYPERVISOR, info)
}

/// An exception that the hypervisor itself should never take.
#[unsafe(no_mangle)]
extern "C" fn trivet_trap(trap: &Trap) -> ! {
    if trap.is_undefined() && firmware::ending() {
        // There is no semihosting. The verdict went with it.
        power_off(Verdict::Failure);
    }
    ends::report::<Virt>(&HYPERVISOR, trap)
}
