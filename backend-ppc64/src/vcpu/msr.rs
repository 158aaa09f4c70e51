//! Machine state and interrupt vectors (Power ISA v3.0B, Book III 4.2 and 6.5).

/// 64-bit mode.
pub const SF: u64 = 1 << 63;
/// Hypervisor state.
pub const HV: u64 = 1 << 60;
/// External interrupts enabled.
pub const EE: u64 = 1 << 15;
/// Problem state.
pub const PR: u64 = 1 << 14;
/// Machine checks enabled.
pub const ME: u64 = 1 << 12;
/// Instruction relocation.
pub const IR: u64 = 1 << 5;
/// Data relocation.
pub const DR: u64 = 1 << 4;
/// Recoverable.
pub const RI: u64 = 1 << 1;
/// Little-endian.
pub const LE: u64 = 1 << 0;
/// The bits of SRR1 that tell an interrupt's cause instead of the old MSR (ISA bits 33 to 36 and 42 to 47).
pub const SRR1_CAUSE: u64 = 0x783f_0000;

/// LPCR: interrupts of the guest are taken little-endian.
pub const LPCR_ILE: u64 = 1 << 25;
/// LPCR: alternate interrupt location, two bits; 3 = translation stays on, vectors at `0xc000_0000_0000_4000`.
pub const LPCR_AIL: u64 = 3 << 23;
/// LPCR: a mediated external interrupt waits.
pub const LPCR_MER: u64 = 1 << 11;

/// Where interrupts go when LPCR\[AIL\] = 3 and translation is on.
pub const AIL_BASE: u64 = 0xc000_0000_0000_4000;

/// An interrupt's effect on nip and MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The handler's first instruction.
    pub nip: u64,
    /// Its machine state.
    pub msr: u64,
    /// What SRR1 receives.
    pub srr1: u64,
}

/// Takes the interrupt `vector` with the cause bits `cause` from machine state `msr`, under `lpcr` (ILE and AIL).
#[must_use]
pub const fn interrupt(msr: u64, lpcr: u64, vector: u64, cause: u64) -> Entered {
    let relocated = lpcr & LPCR_AIL == LPCR_AIL && msr & (IR | DR) == IR | DR && vector != 0x200 && vector != 0x100;
    let mut next = SF | (msr & ME);
    if lpcr & LPCR_ILE != 0 {
        next |= LE;
    }
    let nip = if relocated {
        next |= IR | DR;
        AIL_BASE | vector
    } else {
        vector
    };
    Entered { nip, msr: next, srr1: (msr & !SRR1_CAUSE) | cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ISA 6.5, table "MSR setting due to interrupt", and 2.3 (AIL).
    #[test]
    fn relocates_only_translated_guests() {
        let linux = SF | EE | ME | IR | DR | RI | LE;
        let taken = interrupt(linux, LPCR_ILE | LPCR_AIL, 0x500, 0);
        assert_eq!(taken, Entered { nip: 0xc000_0000_0000_4500, msr: SF | ME | IR | DR | LE, srr1: linux });
        let real = interrupt(SF | EE | ME | LE, LPCR_ILE | LPCR_AIL, 0x500, 0);
        assert_eq!((real.nip, real.msr), (0x500, SF | ME | LE));
        let check = interrupt(linux, LPCR_ILE | LPCR_AIL, 0x200, 0);
        assert_eq!(check.nip, 0x200);
    }

    /// A cause replaces stale cause bits and nothing else.
    #[test]
    fn cause_bits_are_replaced() {
        let taken = interrupt(SF | SRR1_CAUSE | EE, 0, 0x700, 0x80000);
        assert_eq!(taken.srr1, SF | EE | 0x80000);
        assert_eq!(taken.msr, SF);
    }
}
