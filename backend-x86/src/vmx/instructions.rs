//! The instructions of VMX (Intel SDM vol. 3C, "VMX Instruction Reference"). For ring 0, in VMX operation but for [`vmxon`].
//!
//! Addresses are physical. Structures that a processor is given are pages below the processor's address width; while it has
//! one (from [`vmptrld`] to [`vmclear`]) nobody else touches it.
#![expect(unsafe_code, reason = "the instructions themselves")]

use core::arch::asm;

use super::fields::Field;

/// The instruction failed: CF or ZF was set ("Conventions" of that chapter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl Failed {
    #[inline(always)]
    const fn if_not_zero(failed: u8) -> Result<(), Self> {
        if failed == 0 { Ok(()) } else { Err(Self) }
    }
}

macro_rules! on_a_structure {
    ($(#[$doc:meta])* $name:ident $instruction:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// See the head of this file: the page at `at` is the processor's from now on, or was until now.
        #[inline]
        pub unsafe fn $name(at: u64) -> Result<(), Failed> {
            let failed: u8;
            // SAFETY: as promised by the caller; the operand is the address of the structure's address.
            unsafe {
                asm!(concat!($instruction, " qword ptr [{}]"), "setbe {}", in(reg) &raw const at, out(reg_byte) failed,
                     options(nostack));
            }
            Failed::if_not_zero(failed)
        }
    };
}

on_a_structure!(
    /// Enters VMX operation, with the region at `at`.
    vmxon "vmxon"
);
on_a_structure!(
    /// Writes all of the VMCS at `at` back to memory: any processor may have it next, and it has to be launched there.
    vmclear "vmclear"
);
on_a_structure!(
    /// Makes the VMCS at `at` the current one.
    vmptrld "vmptrld"
);

/// A field of the current VMCS.
///
/// # Safety
/// There is a current VMCS.
#[inline(always)]
pub unsafe fn vmread(field: Field) -> u64 {
    let (value, failed): (u64, u8);
    // SAFETY: reads state of the processor; the fields that have names are there wherever guests can be run.
    unsafe {
        asm!("vmread {}, {}", "setbe {}", out(reg) value, in(reg) u64::from(field.0), out(reg_byte) failed,
             options(nomem, nostack));
    }
    debug_assert!(failed == 0, "no such field");
    value
}

/// Sets a field of the current VMCS.
///
/// # Safety
/// There is a current VMCS. Controls and host state say what the processor does to Trivet itself.
#[inline(always)]
pub unsafe fn vmwrite(field: Field, value: u64) {
    let failed: u8;
    // SAFETY: as promised by the caller.
    unsafe {
        asm!("vmwrite {}, {}", "setbe {}", in(reg) u64::from(field.0), in(reg) value, out(reg_byte) failed,
             options(nomem, nostack));
    }
    debug_assert!(failed == 0, "no such field");
}

/// Whose translations are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Context {
    /// Those of one EPT pointer.
    One = 1,
    /// Those of all.
    All = 2,
}

/// Forgets what this CPU has cached of second stages: guest-physical and combined translations ("Operations that Invalidate
/// Cached Mappings").
///
/// # Safety
/// The processor has INVEPT of this kind, and is in VMX operation.
#[inline]
pub unsafe fn invept(context: Context, pointer: u64) -> Result<(), Failed> {
    let failed: u8;
    let descriptor = [pointer, 0];
    // SAFETY: forgetting translations is harmless; the operand is 16 bytes, as expected.
    unsafe {
        asm!("invept {}, xmmword ptr [{}]", "setbe {}", in(reg) context as u64, in(reg) &raw const descriptor,
             out(reg_byte) failed, options(nostack));
    }
    Failed::if_not_zero(failed)
}
