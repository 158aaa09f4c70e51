//! Reads what the calling CPU says of itself, and what it makes up.
#![expect(unsafe_code, reason = "instructions that the language has not")]

use core::arch::asm;
use core::arch::x86_64::__cpuid;

use x86_64::registers::model_specific::Msr;

use crate::features::Cpuid;

/// The leaves that [`Features`](crate::features::Features) is made of; those that the processor does not have are zero.
pub fn leaves() -> Cpuid {
    let extended = __cpuid(0x8000_0000).eax;
    let leaf = |n: u32| (n <= extended).then(|| __cpuid(n));
    let (one, sizes, svm) = (leaf(0x8000_0001), leaf(0x8000_0008), leaf(0x8000_000a));
    Cpuid {
        leaf1_ecx: __cpuid(1).ecx,
        extended1_ecx: one.map_or(0, |leaf| leaf.ecx),
        extended1_edx: one.map_or(0, |leaf| leaf.edx),
        sizes_eax: sizes.map_or(0, |leaf| leaf.eax),
        svm_ebx: svm.map_or(0, |leaf| leaf.ebx),
        svm_edx: svm.map_or(0, |leaf| leaf.edx),
    }
}

/// True if QEMU translates the instructions itself (TCG), as the leaf for guests of hypervisors says: `TCGTCGTCGTCG`.
pub fn is_tcg() -> bool {
    __cpuid(1).ecx & UNDER_HYPERVISOR != 0 && __cpuid(HYPERVISOR).ebx == u32::from_le_bytes(*b"TCGT")
}

/// CPUID leaf 1, ECX: the leaves from here on are a hypervisor's.
const UNDER_HYPERVISOR: u32 = 1 << 31;
const HYPERVISOR: u32 = 0x4000_0000;

/// Reads a register.
///
/// # Safety
/// There is one of this number.
pub unsafe fn register(number: u32) -> u64 {
    // SAFETY: as the caller promises. Reading the capability registers changes nothing.
    unsafe { Msr::new(number).read() }
}

/// A random number (RDRAND), unless there is none just now. The processor has the instruction.
pub fn random() -> Option<u64> {
    let (number, good): (u64, u8);
    // SAFETY: changes these two and the flags only.
    unsafe { asm!("rdrand {}", "setc {}", out(reg) number, out(reg_byte) good, options(nomem, nostack)) };
    (good != 0).then_some(number)
}
