//! What of a guest no field of the VMCS holds: moved by hand when a vCPU comes to a CPU and when it leaves it.
//!
//! Trivet uses none of these registers (SYSCALL's, KernelGSBase, CR2, DR6), so they are the guest's from load to put.
#![expect(unsafe_code, reason = "registers that take effect for guests alone")]

use core::arch::asm;

use x86_64::registers::model_specific::Msr;

/// STAR, LSTAR, CSTAR, FMASK, KernelGSBase: what of [`crate::msr_map`]'s registers has no field.
const MSRS: [u32; 5] = [0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0102];

/// Their values while the vCPU is not loaded.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    msrs: [u64; MSRS.len()],
    cr2: u64,
    dr6: u64,
}

impl Beside {
    /// As after a reset.
    pub(super) const RESET: Self = Self { msrs: [0; MSRS.len()], cr2: 0, dr6: 0xffff_0ff0 };

    /// To the CPU.
    pub(super) fn load(&self) {
        for (number, value) in MSRS.into_iter().zip(self.msrs) {
            // SAFETY: of no effect on Trivet, which makes no system calls and does not swap GS. The values were read from there,
            // so they are canonical.
            unsafe { Msr::new(number).write(value) };
        }
        set_cr2(self.cr2);
        // SAFETY: Trivet takes no debug exceptions; the value was read from there.
        unsafe { asm!("mov dr6, {}", in(reg) self.dr6, options(nomem, nostack, preserves_flags)) };
    }

    /// From the CPU.
    pub(super) fn save(&mut self) {
        for (number, value) in MSRS.into_iter().zip(&mut self.msrs) {
            // SAFETY: reading has no effect.
            *value = unsafe { Msr::new(number).read() };
        }
        // SAFETY: reading has no effect.
        unsafe {
            asm!("mov {}, cr2", out(reg) self.cr2, options(nomem, nostack, preserves_flags));
            asm!("mov {}, dr6", out(reg) self.dr6, options(nomem, nostack, preserves_flags));
        }
    }
}

/// Adds `bits` to what a loaded guest's DR6 says of debug exceptions; those of breakpoints are about the last one alone.
pub(super) fn add_dr6(bits: u64) {
    // SAFETY: Trivet takes no debug exceptions; the bits are those of the register.
    unsafe {
        let dr6: u64;
        asm!("mov {}, dr6", out(reg) dr6, options(nomem, nostack, preserves_flags));
        asm!("mov dr6, {}", in(reg) dr6 & !0xf | bits, options(nomem, nostack, preserves_flags));
    }
}

/// Sets CR2 on the CPU: a loaded guest's.
pub(super) fn set_cr2(cr2: u64) {
    // SAFETY: Trivet has no use for it but in its report of a page fault of its own.
    unsafe { asm!("mov cr2, {}", in(reg) cr2, options(nomem, nostack, preserves_flags)) };
}
