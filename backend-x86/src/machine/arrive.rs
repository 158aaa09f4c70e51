//! A CPU is made ready for guests: control registers, then SVM (AMD APM vol. 2, 15.4 and 15.30.4) or VMX.
#![expect(unsafe_code, reason = "control registers")]

use core::arch::x86_64::__cpuid;

use hv_core::addr::{PAGE_SHIFT, Pfn};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::Msr;
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

use super::identify;
use crate::features::{Extension, Features, Unsupported};
use crate::vmx::host as vmx;

/// VM_HSAVE_PA.
const HOST_SAVE: u32 = 0xc001_0117;
/// CPUID leaf 1, ECX: XSAVE and its control register.
const HAS_XSAVE: u32 = 1 << 26;

/// A CPU cannot run guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotRun {
    /// It lacks something.
    Lacks(Unsupported),
    /// It is not as the boot CPU is.
    Differs,
    /// VMX could not be switched on.
    Vmx(vmx::Refused),
}

impl core::fmt::Display for CannotRun {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Lacks(lacks) => lacks.fmt(f),
            Self::Differs => f.write_str("a CPU differs from the first, and guests are moved between them"),
            Self::Vmx(why) => why.fmt(f),
        }
    }
}

/// Readies the calling CPU, which is to be as `features` say.
///
/// # Safety
/// `host` is a zeroed page, and from now on this CPU's.
pub unsafe fn open(features: &Features, host: Pfn) -> Result<(), CannotRun> {
    // SAFETY: `Features::of` asks for registers that are there.
    let own = Features::of(&identify::leaves(), |register| unsafe { identify::register(register) });
    if own.map_err(CannotRun::Lacks)? != *features {
        return Err(CannotRun::Differs);
    }
    let has_xsave = __cpuid(1).ecx & HAS_XSAVE != 0;
    // SAFETY: Trivet itself has neither x87 nor SSE; guests' state is kept with instructions that these allow. Caches are on,
    // which the loader may have left to us.
    unsafe {
        Cr0::update(|flags| {
            flags.remove(Cr0Flags::CACHE_DISABLE | Cr0Flags::NOT_WRITE_THROUGH);
            flags.remove(Cr0Flags::TASK_SWITCHED | Cr0Flags::EMULATE_COPROCESSOR);
            flags.insert(Cr0Flags::MONITOR_COPROCESSOR | Cr0Flags::NUMERIC_ERROR | Cr0Flags::WRITE_PROTECT);
        });
        Cr4::update(|flags| {
            flags.insert(Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE | Cr4Flags::MACHINE_CHECK_EXCEPTION);
            flags.set(Cr4Flags::OSXSAVE, has_xsave);
        });
        if has_xsave {
            XCr0::write(XCr0Flags::X87);
        }
    }
    match features.extension {
        // SAFETY: the processor has SVM, which is not switched off; the page is this CPU's.
        Extension::Svm { .. } => unsafe {
            Efer::update(|flags| flags.insert(EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE));
            Msr::new(HOST_SAVE).write(host.0 << PAGE_SHIFT);
            Ok(())
        },
        Extension::Vmx { .. } => vmx::enable(host, features).map_err(CannotRun::Vmx),
    }
}
