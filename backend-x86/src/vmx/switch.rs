//! The world switch (`switch.S`): general registers, and the way in and out. RSP, RIP and RFLAGS are in the VMCS.
#![expect(unsafe_code, reason = "runs a guest")]

use crate::vcpu::hardware::General;

core::arch::global_asm!(include_str!("switch.S"));

unsafe extern "C" {
    /// Runs the guest of the current VMCS. `rsp` is what HOST_RSP was last set to. Returns 0 after an exit, and 1 if the
    /// instruction itself failed.
    fn trivet_vmx_enter(general: *mut General, rsp: *mut u64, how: Launch) -> u64;
    /// Where exits lead. Not a function to be called.
    fn trivet_vmx_exit();
}

/// Which instruction enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Launch {
    /// VMLAUNCH: the first time after the VMCS was in memory.
    First = 0,
    /// VMRESUME.
    Again = 1,
}

/// The processor would not even look at the guest's state ("VMFail").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotEntered;

/// HOST_RIP.
pub(super) fn way_out() -> u64 {
    (trivet_vmx_exit as *const ()).addr() as u64
}

/// Runs the guest until it leaves.
///
/// # Safety
/// A VMCS is current whose host state is Trivet's as it runs on this CPU, whose controls confine the guest, and `rsp` is its own;
/// `how` fits it. Interrupts are off.
#[inline]
pub(super) unsafe fn enter(general: &mut General, rsp: &mut u64, how: Launch) -> Result<(), NotEntered> {
    // SAFETY: as promised by the caller.
    if unsafe { trivet_vmx_enter(general, rsp, how) } == 0 { Ok(()) } else { Err(NotEntered) }
}
