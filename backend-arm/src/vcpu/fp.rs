//! Floating-point registers, lent at their first use in a turn. Trivet itself has no use for them: it is built for soft float.
#![cfg_attr(target_arch = "aarch64", expect(unsafe_code, reason = "moves floating-point registers"))]

/// What `fp.S` moves. It knows the offsets.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct Registers {
    /// Q0 to Q31, low half first.
    v: [[u64; 2]; 32],
    fpsr: u64,
    fpcr: u64,
}

const _: () = assert!(core::mem::offset_of!(Registers, fpsr) == 512 && core::mem::offset_of!(Registers, fpcr) == 520);

impl Registers {
    /// All zero: what the architecture leaves UNKNOWN after a reset, and round-to-nearest.
    pub const RESET: Self = Self { v: [[0; 2]; 32], fpsr: 0, fpcr: 0 };
}

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(include_str!("fp.S"));

#[cfg(target_arch = "aarch64")]
unsafe extern "C" {
    fn __trivet_state_switch_float_save(to: *mut Registers);
    fn __trivet_state_switch_float_load(from: *const Registers);
}

#[cfg(target_arch = "aarch64")]
impl Registers {
    /// From the CPU, on which CPTR_EL2 lets EL2 at them.
    pub fn save(&mut self) {
        // SAFETY: writes what is exclusively borrowed, of the layout that is expected.
        unsafe { __trivet_state_switch_float_save(self) }
    }

    /// To the CPU, on which CPTR_EL2 lets EL2 at them.
    pub fn load(&self) {
        // SAFETY: reads what is borrowed; the registers are used by guests alone.
        unsafe { __trivet_state_switch_float_load(self) }
    }
}
