//! Exceptions that Trivet itself takes: bugs, all of them. `vectors.S` collects what is known, and the board reports it.

use core::fmt;

/// What such an exception left behind, in the order in which `vectors.S` stores it.
#[repr(C)]
#[derive(Debug)]
pub struct Trap {
    /// General registers.
    pub gpr: [u64; 31],
    /// The stack pointer.
    pub sp: u64,
    /// Where it happened.
    pub elr: u64,
    /// PSTATE there.
    pub spsr: u64,
    /// ESR_EL2: what it was.
    pub esr: u64,
    /// FAR_EL2: the address that it was about, if any.
    pub far: u64,
    /// The vector's number.
    pub vector: u64,
    /// Fills up to a multiple of 16 bytes.
    _rest: u64,
}

/// Exception class of an instruction that is not defined (DDI 0487, D24.2.40).
const UNKNOWN: u64 = 0;

impl Trap {
    /// True for an instruction that is not defined.
    #[must_use]
    pub const fn is_undefined(&self) -> bool {
        self.esr >> 26 & 0x3f == UNKNOWN
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = ["synchronous exception", "IRQ", "FIQ", "SError"][self.vector as usize & 3];
        writeln!(f, "{kind} in the hypervisor (vector {})", self.vector)?;
        writeln!(f, "elr {:016x} spsr {:08x} esr {:08x} far {:016x}", self.elr, self.spsr, self.esr, self.far)?;
        write!(f, "sp  {:016x}", self.sp)?;
        for (n, value) in self.gpr.iter().enumerate() {
            let gap = if n % 4 == 0 { "\n" } else { " " };
            write!(f, "{gap}x{n:<2} {value:016x}")?;
        }
        Ok(())
    }
}
