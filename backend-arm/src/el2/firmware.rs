//! What Trivet asks of the platform's firmware (PSCI, DEN 0022), and of an emulator that runs it (Semihosting for AArch32
//! and AArch64, Arm 100863).
#![expect(unsafe_code, reason = "the semihosting instruction")]

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::registers::{MPIDR_EL1, Readable as _};
use hv_core::machine::Verdict;
use smccc::psci::{self, PSCI_CPU_ON_64};
use smccc::{Call as _, Hvc, Smc};

use super::inventory::Conduit;

/// SYS_EXIT.
const SYS_EXIT: u64 = 0x18;
/// ADP_Stopped_ApplicationExit: the second word is an exit status.
const APPLICATION_EXIT: u64 = 0x2_0026;

/// The run is ending: an undefined instruction is semihosting's, which nobody listens to.
static ENDING: AtomicBool = AtomicBool::new(false);

/// What firmware calls the calling CPU, with flags beside (MPIDR_EL1).
#[must_use]
pub fn this_cpu() -> u64 {
    MPIDR_EL1.get()
}

/// Starts the CPU with this affinity at physical address `entry`, with `argument` in x0. Fails with PSCI's error code.
pub fn start_cpu(affinity: u64, entry: u64, argument: u64) -> Result<(), i64> {
    let mut arguments = [0; 17];
    arguments[..3].copy_from_slice(&[affinity, entry, argument]);
    match Smc::call64(PSCI_CPU_ON_64, arguments)[0] as i64 {
        0 => Ok(()),
        code => Err(code),
    }
}

/// Ends the run with a status that an emulator passes on; where nobody listens, by firmware, which knows no statuses.
pub fn end(verdict: Verdict, conduit: Conduit) -> ! {
    if !ENDING.swap(true, Ordering::Relaxed) {
        let status = match verdict {
            Verdict::Success => 0,
            Verdict::Failure => 1,
        };
        let block: [u64; 2] = [APPLICATION_EXIT, status];
        // SAFETY: reads the block. Where semihosting is off the instruction is undefined, and `vectors` comes back here.
        unsafe {
            asm!("hlt #0xf000", inout("x0") SYS_EXIT => _, in("x1") &raw const block, options(nostack));
        }
    }
    // An error is as good as no answer.
    let _ = match conduit {
        Conduit::Smc => psci::system_off::<Smc>(),
        Conduit::Hvc => psci::system_off::<Hvc>(),
    };
    loop {
        core::hint::spin_loop();
    }
}

/// True once the run is ending.
#[must_use]
pub fn ending() -> bool {
    ENDING.load(Ordering::Relaxed)
}
