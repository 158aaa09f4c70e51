//! Hypercalls to the platform below (LoPAPR, "Hypervisor call functions"; nested HV v1: Linux and QEMU).
#![expect(unsafe_code, reason = "the hypercall instruction")]

use core::arch::asm;

/// `H_EOI`
pub const H_EOI: u64 = 0x64;
/// `H_CPPR`
pub const H_CPPR: u64 = 0x68;
/// `H_IPI`
pub const H_IPI: u64 = 0x6c;
/// `H_XIRR`
pub const H_XIRR: u64 = 0x74;
/// `H_GET_TERM_CHAR`
pub const H_GET_TERM_CHAR: u64 = 0x54;
/// `H_PUT_TERM_CHAR`
pub const H_PUT_TERM_CHAR: u64 = 0x58;
/// `H_CEDE`
pub const H_CEDE: u64 = 0xe0;
/// `H_VIO_SIGNAL`
pub const H_VIO_SIGNAL: u64 = 0x104;
/// `H_GET_CPU_CHARACTERISTICS`
pub const H_GET_CPU_CHARACTERISTICS: u64 = 0x1c8;
/// `H_RANDOM`
pub const H_RANDOM: u64 = 0x300;
/// `H_SET_MODE`
pub const H_SET_MODE: u64 = 0x31c;
/// The firmware call of QEMU and of Trivet: r4 = argument block. No RTAS has to be instantiated for it.
pub const H_RTAS: u64 = 0xf000;
/// `H_SET_PARTITION_TABLE`
pub const H_SET_PARTITION_TABLE: u64 = 0xf800;
/// `H_ENTER_NESTED`
pub const H_ENTER_NESTED: u64 = 0xf804;
/// `H_TLB_INVALIDATE`
pub const H_TLB_INVALIDATE: u64 = 0xf808;

/// `H_SUCCESS`
pub const H_SUCCESS: i64 = 0;

/// Makes a hypercall; returns its status and the first three result registers.
///
/// # Safety
/// The call `nr` with these arguments touches no memory that Rust code relies on, except as the caller accounts for.
#[inline]
pub unsafe fn hcall(nr: u64, args: [u64; 4]) -> (i64, [u64; 3]) {
    let status: i64;
    let (a, b, c): (u64, u64, u64);
    // SAFETY: the ABI of the hypercall: r0, r3-r12, CTR, XER and CR are lost; memory effects are the caller's.
    unsafe {
        asm!(
            "sc 1",
            inlateout("r3") nr => status,
            inlateout("r4") args[0] => a,
            inlateout("r5") args[1] => b,
            inlateout("r6") args[2] => c,
            inlateout("r7") args[3] => _,
            lateout("r0") _, lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _, lateout("r12") _,
            lateout("ctr") _, lateout("xer") _, lateout("cr") _, lateout("lr") _,
        );
    }
    (status, [a, b, c])
}
