//! The ways in which a run ends: well, refused, or by a failure of Trivet's own.

use core::panic::PanicInfo;

use backend_ppc64::boot::inventory::RtasTokens;
use backend_ppc64::boot::vectors::Trap;
use backend_ppc64::nested::rtas;
use board_kit::ends;
use hv_core::machine::Verdict;
use spin::Once;

use crate::{HYPERVISOR, Pseries};

/// The firmware calls by which a run ends. Known long before there is a machine, so that a refusal ends the run too.
static TOKENS: Once<RtasTokens> = Once::new();

/// Tells how a run is ended. Once, as soon as the platform's tree has been read.
pub fn end_by(tokens: RtasTokens) {
    TOKENS.call_once(|| tokens);
}

/// Ends the run. QEMU's status is 0 after a power-off, and 1 after `ibm,os-term` with `-action panic=exit-failure`.
pub fn power_off(verdict: Verdict) -> ! {
    if let Some(tokens) = TOKENS.get() {
        match verdict {
            Verdict::Success => rtas::power_off(tokens),
            Verdict::Failure => rtas::os_term(tokens, c"Trivet: the run has failed"),
        }
        // Where the platform does not end by that, at least nothing runs on.
        rtas::power_off(tokens);
    }
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    ends::report::<Pseries>(&HYPERVISOR, info)
}

/// An interrupt that the hypervisor itself should never take.
#[unsafe(no_mangle)]
extern "C" fn trivet_trap(trap: &Trap) -> ! {
    ends::report::<Pseries>(&HYPERVISOR, trap)
}
