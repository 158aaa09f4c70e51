//! Interrupt vectors of the hypervisor itself.
//!
//! Trivet runs with interrupts off and polls. They are on only inside the platform's `H_CEDE`, so an external or
//! decrementer interrupt has one thing to do: come back with interrupts off; what caused it stays pending and is
//! found by polling. Everything else is a bug of ours: the stub collects what is known and ends in [`Trap`].
#![expect(unsafe_code, reason = "writes the vectors into low memory, where the architecture wants them")]

use core::fmt;
use core::sync::atomic::{Ordering, fence};

/// What a trap of the hypervisor left behind, in the order in which `vectors.S` stores it.
#[repr(C)]
pub struct Trap {
    /// General registers.
    pub gpr: [u64; 32],
    /// Where it happened.
    pub nip: u64,
    /// MSR with the cause bits.
    pub msr: u64,
    /// Link register.
    pub lr: u64,
    /// DAR, where the kind of trap has one.
    pub dar: u64,
    /// DSISR, likewise.
    pub dsisr: u64,
    /// The vector.
    pub vector: u64,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "interrupt {:#x} in the hypervisor", self.vector)?;
        writeln!(f, "nip {:016x} msr {:016x} lr {:016x}", self.nip, self.msr, self.lr)?;
        write!(f, "dar {:016x} dsisr {:08x}", self.dar, self.dsisr)?;
        for (n, value) in self.gpr.iter().enumerate() {
            let gap = if n % 4 == 0 { "\n" } else { " " };
            write!(f, "{gap}r{n:<2} {value:016x}")?;
        }
        Ok(())
    }
}

core::arch::global_asm!(include_str!("vectors.S"), options(raw));

unsafe extern "C" {
    fn trivet_trap_entry();
}

/// Vectors that only end the platform's `H_CEDE`: external, decrementer, doorbell, performance monitor.
const RETURN: [usize; 4] = [0x500, 0x900, 0xa00, 0xf00];
/// Vectors that no correct hypervisor reaches.
const TRAP: [usize; 13] = [0x100, 0x200, 0x300, 0x380, 0x400, 0x480, 0x600, 0x700, 0x800, 0xc00, 0xd00, 0xf20, 0xf60];

/// Goes back with MSR\[EE\] clear. `mtsprg0 3; mfsrr1 3; rldicl 3,3,48,1; rotldi 3,3,16; mtsrr1 3; mfsprg0 3; rfid`.
const RETURN_STUB: [u32; 8] =
    [0x7c70_43a6, 0x7c7b_02a6, 0x7863_8042, 0x7863_8000, 0x7c7b_03a6, 0x7c70_42a6, 0x4c00_0024, 0x6000_0000];

/// `mtsprg0 3; mflr 3; mtsprg1 3; lis 3,handler@h; ori 3,3,handler@l; mtlr 3; li 3,vector; blr`.
fn trap_stub(vector: usize) -> [u32; 8] {
    let handler = trivet_trap_entry as *const () as usize as u32;
    [
        0x7c70_43a6,
        0x7c68_02a6,
        0x7c71_43a6,
        0x3c60_0000 | handler >> 16,
        0x6063_0000 | handler & 0xffff,
        0x7c68_03a6,
        0x3860_0000 | vector as u32,
        0x4e80_0020,
    ]
}

/// Writes all vectors.
///
/// # Safety
/// Once, on the boot CPU, when firmware is no longer needed: this overwrites real memory 0x100 to 0x1000. The image
/// lies above that and below 2 GiB, and interrupts are taken little-endian (H_SET_MODE).
pub unsafe fn install() {
    for vector in RETURN {
        // SAFETY: the caller gives up this memory.
        unsafe { place(vector, RETURN_STUB) };
    }
    for vector in TRAP {
        // SAFETY: the caller gives up this memory.
        unsafe { place(vector, trap_stub(vector)) };
    }
    fence(Ordering::SeqCst);
}

/// Has the vector end in [`Trap`].
///
/// # Safety
/// As [`install`], for this vector.
pub unsafe fn install_trap(vector: usize) {
    // SAFETY: the caller's promise.
    unsafe { place(vector, trap_stub(vector)) };
}

/// Writes a vector's code.
///
/// # Safety
/// As [`install`], for this vector; the code can run there.
pub unsafe fn place(vector: usize, stub: [u32; 8]) {
    let at = core::ptr::with_exposed_provenance_mut::<[u32; 8]>(vector);
    // SAFETY: the caller owns low memory; the block is 32 bytes, aligned, and instruction fetch is synchronised below.
    unsafe {
        at.write_volatile(stub);
        core::arch::asm!("dcbst 0, {0}", "sync", "icbi 0, {0}", "sync", "isync", in(reg_nonzero) vector);
    }
}
