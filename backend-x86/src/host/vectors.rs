//! Interrupts and exceptions that Trivet itself takes, through `vectors.S`.
//!
//! Interrupts are disabled but for one instruction at a time: in [`take`], and in [`wait`], which sleeps. The handlers live by
//! these functions' registers and need nothing of the CPU's own, so segment bases, TR and the registers of SYSCALL may be
//! the guest's from its load to its put. An exception is a bug, an NMI the machine's failure; the board reports them.
#![expect(unsafe_code, reason = "enables interrupts")]

use core::arch::asm;
use core::fmt;

use bitflags::bitflags;

/// A CPU is to leave its guest, or to wake.
pub const KICK: u8 = 0xf0;
/// The local APIC's timer.
pub const TIMER: u8 = 0xf1;
/// The console has received something.
pub const CONSOLE: u8 = 0xf2;
/// The local APIC has retracted an interrupt. Its low bits are all set, which old processors want.
pub const SPURIOUS: u8 = 0xff;

bitflags! {
    /// What was taken. The bits are those of `vectors.S`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Taken: u32 {
        /// [`KICK`].
        const KICK = 1 << 0;
        /// [`TIMER`].
        const TIMER = 1 << 1;
        /// [`CONSOLE`].
        const CONSOLE = 1 << 2;
        /// One that nobody asked for.
        const STRAY = 1 << 3;
    }
}

/// Takes the interrupts that are pending, all of them: after one has returned the next comes before the last instruction.
#[inline]
pub fn take() -> Taken {
    let taken: u32;
    // SAFETY: the handlers change these registers and what is below the stack pointer only.
    unsafe {
        asm!("xor esi, esi", "sti", "nop", "cli", out("esi") taken, out("eax") _, out("ecx") _, out("edx") _);
    }
    Taken::from_bits_truncate(taken)
}

/// Sleeps until there are some, and takes them. None is lost between the look and the sleep: STI lets them come after the
/// next instruction only, which is the one that sleeps.
pub fn wait() -> Taken {
    let taken: u32;
    // SAFETY: as above.
    unsafe {
        asm!("xor esi, esi", "sti", "hlt", "cli", out("esi") taken, out("eax") _, out("ecx") _, out("edx") _);
    }
    Taken::from_bits_truncate(taken)
}

/// What an exception left behind, in the order in which `vectors.S` and the processor store it.
#[repr(C)]
#[derive(Debug)]
pub struct Trap {
    /// The address that a page fault was about.
    cr2: u64,
    /// R15 to R8, RDI, RSI, RBP, RBX, RDX, RCX, RAX.
    general: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    flags: u64,
    rsp: u64,
    ss: u64,
}

const NAMES: [&str; 15] =
    ["r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rdi", "rsi", "rbp", "rbx", "rdx", "rcx", "rax"];

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.vector {
            0 => "divide error",
            2 => "NMI",
            6 => "invalid opcode",
            8 => "double fault",
            13 => "general protection fault",
            14 => "page fault",
            18 => "machine check",
            _ => "exception",
        };
        writeln!(f, "{kind} in the hypervisor (vector {}, error {:#x})", self.vector, self.error)?;
        writeln!(f, "rip {:016x} flags {:08x} cr2 {:016x} rsp {:016x}", self.rip, self.flags, self.cr2, self.rsp)?;
        write!(f, "cs {:04x} ss {:04x}", self.cs, self.ss)?;
        for (n, (name, value)) in NAMES.iter().zip(&self.general).rev().enumerate() {
            let gap = if n % 4 == 0 { "\n" } else { " " };
            write!(f, "{gap}{name:<3} {value:016x}")?;
        }
        Ok(())
    }
}
