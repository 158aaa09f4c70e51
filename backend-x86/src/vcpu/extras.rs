//! Registers that both vendors leave to Trivet: x87 and SSE state, debug registers 0 to 3, TSC_AUX. Trivet uses none of them, so
//! a guest's stay on the CPU from `load` to `put`.
//!
//! Guests are shown no XSAVE: XCR0 is 1 always, and with that no instruction reaches what FXSAVE does not save. Debug registers
//! 6 and 7 are switched with each run, and Trivet's own 7 has everything off, so addresses in 0 to 3 do nothing to it.
#![expect(unsafe_code, reason = "moves a guest's registers")]

use core::arch::asm;
use core::arch::x86_64::__cpuid;

use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;

use crate::bus::GeneralProtection;

/// What FXSAVE saves (AMD APM vol. 2, 11.4.4.3).
#[derive(Clone, Debug)]
#[repr(C, align(16))]
struct Float([u8; 512]);

/// The registers, off the CPU.
#[derive(Clone, Debug)]
pub struct Extras {
    float: Float,
    breakpoints: [u64; 4],
    tsc_aux: u64,
    has: TscAux,
}

/// x87 control word and MXCSR after a reset, with all exceptions masked; and where FXSAVE has them.
const CONTROL: u16 = 0x37f;
const MXCSR: u32 = 0x1f80;
const MXCSR_AT: usize = 24;

/// TSC_AUX.
const TSC_AUX: u32 = 0xc000_0103;

/// Whether the processor has TSC_AUX: it comes with RDTSCP (CPUID leaf 8000_0001, EDX).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TscAux {
    /// It has.
    There,
    /// It has not.
    Missing,
}

impl TscAux {
    /// Of the calling CPU; all are alike.
    pub fn find() -> Self {
        const HAS_RDTSCP: u32 = 1 << 27;
        let there = __cpuid(0x8000_0000).eax > 0x8000_0000 && __cpuid(0x8000_0001).edx & HAS_RDTSCP != 0;
        if there { Self::There } else { Self::Missing }
    }
}

impl Extras {
    /// As after a reset.
    pub fn new(has: TscAux) -> Self {
        let mut new = Self { float: Float([0; 512]), breakpoints: [0; 4], tsc_aux: 0, has };
        new.reset();
        new
    }

    /// All are as after a reset.
    pub fn reset(&mut self) {
        let float = &mut self.float.0;
        float.fill(0);
        float[..2].copy_from_slice(&CONTROL.to_le_bytes());
        float[MXCSR_AT..MXCSR_AT + 4].copy_from_slice(&MXCSR.to_le_bytes());
        (self.breakpoints, self.tsc_aux) = ([0; 4], 0);
    }

    /// Brings them to the CPU.
    pub fn load(&self) {
        let [dr0, dr1, dr2, dr3] = self.breakpoints;
        if Cr4::read().contains(Cr4Flags::OSXSAVE) {
            // SAFETY: Trivet uses nothing that depends on it. Firmware may have left something else.
            unsafe { asm!("xsetbv", in("ecx") 0, in("eax") 1, in("edx") 0, options(nomem, nostack, preserves_flags)) };
        }
        // SAFETY: Trivet uses none of these registers. The area was filled by FXSAVE or is that of a reset, so FXRSTOR finds
        // nothing reserved in MXCSR. CR0.EM and TS are clear.
        unsafe {
            asm!("fxrstor64 [{}]", in(reg) &raw const self.float, options(nostack, preserves_flags, readonly));
            asm!(
                "mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
                in(reg) dr0, in(reg) dr1, in(reg) dr2, in(reg) dr3,
                options(nomem, nostack, preserves_flags),
            );
            if self.has == TscAux::There {
                Msr::new(TSC_AUX).write(self.tsc_aux);
            }
        }
    }

    /// Saves them from the CPU.
    pub fn save(&mut self) {
        let (dr0, dr1, dr2, dr3): (u64, u64, u64, u64);
        // SAFETY: reads registers; the area is exclusively borrowed, and of the size and alignment that FXSAVE wants.
        unsafe {
            asm!("fxsave64 [{}]", in(reg) &raw mut self.float, options(nostack, preserves_flags));
            asm!(
                "mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
                out(reg) dr0, out(reg) dr1, out(reg) dr2, out(reg) dr3,
                options(nomem, nostack, preserves_flags),
            );
        }
        self.breakpoints = [dr0, dr1, dr2, dr3];
    }

    /// TSC_AUX.
    pub fn tsc_aux(&self) -> Result<u64, GeneralProtection> {
        if self.has == TscAux::There { Ok(self.tsc_aux) } else { Err(GeneralProtection) }
    }

    /// Sets it. It has 32 bits.
    pub fn set_tsc_aux(&mut self, value: u64) -> Result<(), GeneralProtection> {
        if self.has == TscAux::Missing || value > u64::from(u32::MAX) {
            return Err(GeneralProtection);
        }
        self.tsc_aux = value;
        // SAFETY: the vCPU is loaded, so the register is its own.
        unsafe { Msr::new(TSC_AUX).write(value) };
        Ok(())
    }
}
