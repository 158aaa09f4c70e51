//! A guest's program counter and processor state: past an instruction, and into an exception that Trivet has it take.
//!
//! Source: DDI 0487, D1.3 (exception entry), D19.2 and C5.2 (SPSR), G1.11.2 (IT state). Pure.

use hv_core::vcpu::exit::Access;

/// PSTATE bits as SPSR holds them.
pub mod bits {
    /// AArch32 state.
    pub const AARCH32: u64 = 1 << 4;
    /// The stack pointer and level of AArch64 (M\[3:0\]).
    pub const MODE: u64 = 0xf;
    /// EL1 with its own stack pointer.
    pub const EL1H: u64 = 5;
    /// EL1 with EL0's stack pointer.
    pub const EL1T: u64 = 4;
    /// Debug, SError, IRQ and FIQ masks.
    pub const DAIF: u64 = 0xf << 6;
    /// Data accesses of AArch32 are big-endian.
    pub const BIG_ENDIAN: u64 = 1 << 9;
    /// Speculative store bypass safe.
    pub const SSBS: u64 = 1 << 12;
    /// Privileged access never.
    pub const PAN: u64 = 1 << 22;
    /// Data-independent timing.
    pub const DIT: u64 = 1 << 24;
    /// Condition flags.
    pub const NZCV: u64 = 0xf << 28;
    /// Thumb state.
    pub const THUMB: u64 = 1 << 5;
    /// IT\[7:2\] of AArch32.
    pub const IT_HIGH: u64 = 0x3f << 10;
    /// IT\[1:0\] of AArch32.
    pub const IT_LOW: u64 = 3 << 25;
    /// Software step.
    pub const STEP: u64 = 1 << 21;
}

/// SCTLR_EL1: EL0's data accesses are big-endian.
const SCTLR_E0E: u64 = 1 << 24;
/// SCTLR_EL1: EL1's are.
const SCTLR_EE: u64 = 1 << 25;
/// SCTLR_EL1: privileged access never is left as it is when an exception is taken.
const SCTLR_SPAN: u64 = 1 << 23;
/// SCTLR_EL1: speculative store bypass is safe after an exception.
const SCTLR_DSSBS: u64 = 1 << 44;

/// Where a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Place {
    /// Its program counter: ELR_EL2.
    pub pc: u64,
    /// Its processor state: SPSR_EL2.
    pub pstate: u64,
}

impl Place {
    /// Past an instruction of which bit 25 of the syndrome says if it has 32 bits.
    #[must_use]
    #[inline]
    pub const fn past(self, esr: u64) -> Self {
        if self.pstate & bits::AARCH32 == 0 {
            // A software step of the guest's own debugger has been made.
            return Self { pc: self.pc.wrapping_add(4), pstate: self.pstate & !bits::STEP };
        }
        let length = if esr >> 25 & 1 != 0 { 4 } else { 2 };
        Self { pc: self.pc.wrapping_add(length) & 0xffff_ffff, pstate: it_advanced(self.pstate) & !bits::STEP }
    }

    /// Into an exception: the place of its handler, given VBAR_EL1 and SCTLR_EL1. The place before belongs into ELR_EL1 and
    /// SPSR_EL1.
    #[must_use]
    pub const fn exception(self, vbar: u64, sctlr: u64) -> Self {
        let from = match (self.pstate & bits::AARCH32 != 0, self.pstate & bits::MODE) {
            (true, _) => 0x600,
            (false, bits::EL1H) => 0x200,
            (false, bits::EL1T) => 0,
            (false, _) => 0x400,
        };
        let kept = self.pstate & (bits::NZCV | bits::DIT | bits::PAN);
        let pan = if sctlr & SCTLR_SPAN == 0 { bits::PAN } else { 0 };
        let ssbs = if sctlr & SCTLR_DSSBS != 0 { bits::SSBS } else { 0 };
        Self { pc: (vbar & !0x7ff).wrapping_add(from), pstate: kept | pan | ssbs | bits::DAIF | bits::EL1H }
    }

    /// True if its data accesses are big-endian, given SCTLR_EL1: PSTATE.E says so in AArch32, E0E at EL0, EE at EL1.
    #[must_use]
    pub const fn is_big_endian(self, sctlr: u64) -> bool {
        if self.pstate & bits::AARCH32 != 0 {
            self.pstate & bits::BIG_ENDIAN != 0
        } else if self.is_user() {
            sctlr & SCTLR_E0E != 0
        } else {
            sctlr & SCTLR_EE != 0
        }
    }

    /// True if it is in EL0.
    #[must_use]
    pub const fn is_user(self) -> bool {
        self.pstate & bits::AARCH32 != 0 || self.pstate & bits::MODE == 0
    }

    /// ESR_EL1 of an undefined instruction.
    #[must_use]
    pub const fn undefined(self) -> u64 {
        // "Unknown reason", and IL, which it always has.
        1 << 25
    }

    /// ESR_EL1 of a synchronous external abort of `access`.
    #[must_use]
    pub const fn external_abort(self, access: Access) -> u64 {
        const EXTERNAL: u64 = 0x10;
        let (class, write) = match access {
            Access::Fetch => (0x20, 0),
            Access::Read => (0x24, 0),
            Access::Write => (0x24, 1 << 6),
        };
        // One more for "from the same level".
        let class = if self.is_user() { class } else { class + 1 };
        class << 26 | 1 << 25 | write | EXTERNAL
    }
}

/// AArch32 PSTATE with its IT state moved on by one instruction.
const fn it_advanced(pstate: u64) -> u64 {
    if pstate & bits::THUMB == 0 {
        return pstate;
    }
    let it = (pstate & bits::IT_HIGH) >> 8 | (pstate & bits::IT_LOW) >> 25;
    // The last of its block, or one outside of any: no state is left. Else the mask moves up under the base condition.
    let it = if it & 7 == 0 { 0 } else { (it & 0xe0) | (it << 1 & 0x1f) };
    pstate & !(bits::IT_HIGH | bits::IT_LOW) | (it << 8 & bits::IT_HIGH) | (it & 3) << 25
}

#[cfg(test)]
mod tests {
    use hv_core::vcpu::exit::Access;

    use super::{Place, bits};

    const IL: u64 = 1 << 25;
    const VBAR: u64 = 0xffff_8000_1000_0800;

    #[test]
    fn an_instruction_is_passed_in_both_states() {
        let a64 = Place { pc: 0x1000, pstate: bits::EL1H | bits::STEP };
        assert_eq!(a64.past(IL), Place { pc: 0x1004, pstate: bits::EL1H });
        let a32 = Place { pc: 0xffff_fffc, pstate: bits::AARCH32 };
        assert_eq!(a32.past(IL).pc, 0, "32 bits of address");
        let t32 = Place { pc: 0x1000, pstate: bits::AARCH32 | bits::THUMB };
        assert_eq!(t32.past(0).pc, 0x1002);
    }

    #[test]
    fn a_thumb_block_moves_on() {
        // ITTE EQ: firstcond 0, mask 0b0110. IT[7:0] = 0b0000_0110.
        let at = |it: u64| bits::AARCH32 | bits::THUMB | (it & 3) << 25 | (it >> 2) << 10;
        let next = |it| Place { pc: 0, pstate: at(it) }.past(0).pstate;
        assert_eq!(next(0b0000_0110), at(0b0000_1100));
        assert_eq!(next(0b0000_1100), at(0b0001_1000));
        assert_eq!(next(0b0001_1000), at(0));
        assert_eq!(next(0b1110_0100), at(0b1110_1000), "the base condition stays");
        assert_eq!(next(0), at(0));
    }

    #[test]
    fn an_exception_is_taken_where_it_came_from() {
        let entered = |pstate| Place { pc: 4, pstate }.exception(VBAR, 1 << 23).pc - VBAR;
        assert_eq!(entered(bits::EL1T), 0);
        assert_eq!(entered(bits::EL1H), 0x200);
        assert_eq!(entered(0), 0x400);
        assert_eq!(entered(bits::AARCH32), 0x600);
        let odd = Place { pc: 0, pstate: 0 }.exception(VBAR | 0x7ff, 0);
        assert_eq!(odd.pc, VBAR + 0x400, "low bits of VBAR are no address");
    }

    #[test]
    fn an_exception_keeps_flags_and_masks_all_else() {
        let before =
            Place { pc: 0, pstate: 0b1010 << 28 | bits::DIT | 1 << 20 | 1 << 21 | 1 << 23 | 3 << 10 | bits::SSBS };
        let spanned = before.exception(0, 1 << 23);
        assert_eq!(
            spanned.pstate,
            0b1010 << 28 | bits::DIT | bits::DAIF | bits::EL1H,
            "IL, SS, UAO, BTYPE, SSBS are gone"
        );
        assert_eq!(before.exception(0, 0).pstate, spanned.pstate | bits::PAN);
        assert_eq!(before.exception(0, 1 << 23 | 1 << 44).pstate, spanned.pstate | bits::SSBS);
        let never = Place { pstate: bits::PAN, ..before };
        assert_eq!(never.exception(0, 1 << 23).pstate & bits::PAN, bits::PAN);
    }

    #[test]
    fn each_level_has_its_own_byte_order() {
        let at = |pstate, sctlr| Place { pc: 0, pstate }.is_big_endian(sctlr);
        assert!(at(0, 1 << 24) && !at(0, 1 << 25));
        assert!(at(bits::EL1H, 1 << 25) && !at(bits::EL1H, 1 << 24));
        assert!(at(bits::AARCH32 | 1 << 9, 0) && !at(bits::AARCH32, 3 << 24) && !at(1 << 9, 0));
    }

    #[test]
    fn syndromes_say_from_where() {
        let (user, kernel) = (Place { pc: 0, pstate: 0 }, Place { pc: 0, pstate: bits::EL1H });
        assert_eq!(user.external_abort(Access::Read), 0x9200_0010);
        assert_eq!(kernel.external_abort(Access::Write), 0x9600_0050);
        assert_eq!(user.external_abort(Access::Fetch), 0x8200_0010);
        assert_eq!(kernel.external_abort(Access::Fetch), 0x8600_0010);
        assert_eq!(kernel.undefined(), 0x0200_0000);
        assert!(Place { pc: 0, pstate: bits::AARCH32 | 3 }.is_user());
        assert!(!Place { pc: 0, pstate: bits::EL1T }.is_user());
    }
}
