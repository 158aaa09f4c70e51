//! What a guest reads from identification registers: hardware's value less what the virtual processor does not have.
//!
//! Data, and one function over it. A field is shown only if it is listed here, so that what comes after this was written stays
//! hidden. Hidden consistently: what a field here denies, `guards` traps, and a trapped use ends as an undefined instruction.
//! Source: DDI 0487, D19.2 (ID_AA64*), D19.7 (AArch32's, which matter where EL0 runs it).

use super::sysreg::SysReg;

/// How a register is shown.
struct Shown {
    /// CRm and op2 of (3, 0, 0, CRm, op2).
    name: (u32, u32),
    /// Bits that are hardware's.
    keep: u64,
    /// Bits that are set besides.
    set: u64,
    /// Unsigned fields of four bits (their lowest bit, the largest value shown): more than that is not virtualized.
    most: &'static [(u32, u64)],
}

/// The bits of four-bit fields, by their lowest bits.
const fn fields(at: &[u32]) -> u64 {
    let (mut mask, mut n) = (0, 0);
    while n < at.len() {
        mask |= 0xf << at[n];
        n += 1;
    }
    mask
}

const fn shown(crm: u32, op2: u32, keep: u64) -> Shown {
    Shown { name: (crm, op2), keep, set: 0, most: &[] }
}

const TABLE: &[Shown] = &[
    // ID_PFR0_EL1: instruction sets, CSV2, DIT; not AMU, not RAS.
    shown(1, 0, fields(&[0, 4, 8, 12, 16, 24])),
    // ID_PFR1_EL1: programmers' model, M profile, timer. Neither security nor virtualization below EL2. The GIC's registers
    // (28) exist at EL1.
    Shown { name: (1, 1), keep: fields(&[0, 8, 16]), set: 1 << 28, most: &[] },
    // ID_DFR0_EL1: debug of the core; no performance monitor, no trace.
    shown(1, 2, fields(&[0])),
    // ID_MMFR0_EL1 to ID_MMFR3_EL1.
    shown(1, 4, u64::MAX),
    shown(1, 5, u64::MAX),
    shown(1, 6, u64::MAX),
    shown(1, 7, u64::MAX),
    // ID_ISAR0_EL1 to ID_ISAR5_EL1, ID_MMFR4_EL1, ID_ISAR6_EL1.
    shown(2, 0, u64::MAX),
    shown(2, 1, u64::MAX),
    shown(2, 2, u64::MAX),
    shown(2, 3, u64::MAX),
    shown(2, 4, u64::MAX),
    shown(2, 5, u64::MAX),
    shown(2, 6, u64::MAX),
    shown(2, 7, u64::MAX),
    // MVFR0_EL1 to MVFR2_EL1.
    shown(3, 0, u64::MAX),
    shown(3, 1, u64::MAX),
    shown(3, 2, u64::MAX),
    // ID_PFR2_EL1: CSV3, SSBS. ID_MMFR5_EL1: ETS.
    shown(3, 4, fields(&[0, 4])),
    shown(3, 6, fields(&[0])),
    // ID_AA64PFR0_EL1: EL0 as it is, EL1 in AArch64 only, neither EL2 nor EL3; floating point (16, 20), DIT (48), CSV2 without
    // its context numbers (56), CSV3 (60). The GIC's registers (24) are there, whatever version hardware calls them. Not RAS,
    // SVE, secure EL2, MPAM, AMU, RME.
    Shown { name: (4, 0), keep: fields(&[0, 4, 16, 20, 48, 56, 60]), set: 1 << 24, most: &[(4, 1), (56, 1)] },
    // ID_AA64PFR1_EL1: BTI, SSBS. Not MTE, SME, random traps, NMI.
    shown(4, 1, fields(&[0, 4])),
    // ID_AA64DFR0_EL1: debug up to what came with ARMv8.2 (0), breakpoints (12), watchpoints (20), context breakpoints (28).
    // No performance monitor, trace, profiling; no double lock (36 = 15).
    Shown { name: (5, 0), keep: fields(&[0, 12, 20, 28]), set: 0xf << 36, most: &[(0, 8)] },
    // ID_AA64ISAR0_EL1: all that is there but transactions (24).
    shown(6, 0, !fields(&[0, 24])),
    // ID_AA64ISAR1_EL1: all but what HCRX_EL2 would have to allow: XS (56) and 64-byte accesses (60).
    shown(6, 1, !fields(&[56, 60])),
    // ID_AA64ISAR2_EL1: estimates (4), pointer authentication (8, 12, 24), BC (20), CLRBHB (28), RPRFM (48), CSSC (52). Not
    // waits with a timeout (0) nor memory copies (16).
    shown(6, 2, fields(&[4, 8, 12, 20, 24, 28, 48, 52])),
    // ID_AA64MMFR0_EL1: addresses as wide as a guest's (40 bits are 2), ASIDs (4), byte orders (8, 16), granules (20, 24). Not
    // secure memory, fine-grained traps, counter scaling. The 16 KiB granule without 52 bits; 4 KiB is in `four_kib`.
    Shown { name: (7, 0), keep: fields(&[0, 4, 8, 16, 20, 24, 28]), set: 0, most: &[(0, 2), (20, 1)] },
    // ID_AA64MMFR1_EL1: access flag and dirty state (0), hierarchical permissions (12), PAN (20), ETS (36), alternative
    // floating-point behaviour (44), nTLBPA (48). Not the virtualization extensions, LORegions, TWED, HCX.
    Shown { name: (7, 1), keep: fields(&[0, 12, 20, 36, 44, 48]), set: 0, most: &[(0, 2)] },
    // ID_AA64MMFR2_EL1: CnP (0), UAO (4), LSM (8), 52-bit virtual addresses (16), CCIDX (20), ST (28), AT (32), IDS (36), TTL
    // (48), BBM (52), E0PD (60). Not IESB (RAS), nested virtualization, forced write-back, enhanced traps.
    shown(7, 2, fields(&[0, 4, 8, 16, 20, 28, 32, 36, 48, 52, 60])),
];

/// True if the register is one of those that HCR_EL2.TID3 traps: (3, 0, 0, 1 to 7, any).
#[must_use]
pub const fn is_id(register: SysReg) -> bool {
    register.op0() == 3 && register.op1() == 0 && register.crn() == 0 && register.crm() >= 1 && register.crm() < 8
}

/// Where in [`TABLE`] a register stands: user space may ask for them at any time, so nobody searches.
const PLACES: [u8; 64] = {
    let (mut places, mut n) = ([HIDDEN; 64], 0);
    while n < TABLE.len() {
        places[place(TABLE[n].name.0, TABLE[n].name.1)] = n as u8;
        n += 1;
    }
    places
};

/// In no place of [`TABLE`].
const HIDDEN: u8 = u8::MAX;

const fn place(crm: u32, op2: u32) -> usize {
    (crm as usize & 7) << 3 | op2 as usize & 7
}

/// What a guest reads from an identification register of which hardware says `value`. What is not listed reads as zero, as
/// reserved registers of this space do.
#[must_use]
#[inline]
pub fn visible(register: SysReg, value: u64) -> u64 {
    let place = PLACES.get(place(register.crm(), register.op2())).copied().unwrap_or(HIDDEN);
    let Some(how) = TABLE.get(usize::from(place)) else { return 0 };
    let kept = how.most.iter().fold(value & how.keep, |kept, (at, most)| {
        let field = (kept >> at & 0xf).min(*most);
        kept & !(0xf << at) | field << at
    });
    let kept = if how.name == (7, 0) { four_kib(kept) } else { kept };
    kept | how.set
}

/// ID_AA64MMFR0_EL1.TGran4 is signed: 0 has the granule, 1 has it with 52 bits of address, which guests do not get, 15 has not.
const fn four_kib(mmfr0: u64) -> u64 {
    if mmfr0 >> 28 & 0xf == 1 { mmfr0 & !(0xf << 28) } else { mmfr0 }
}

#[cfg(test)]
mod tests {
    use super::{TABLE, is_id, visible};
    use crate::vcpu::sysreg::SysReg;

    fn id(crm: u32, op2: u32) -> SysReg {
        SysReg::new(3, 0, 0, crm, op2)
    }

    #[test]
    fn what_is_not_listed_reads_as_zero() {
        // ID_AA64ZFR0_EL1, ID_AA64SMFR0_EL1, ID_AA64DFR1_EL1, ID_AA64MMFR3_EL1, a hole.
        for (crm, op2) in [(4, 4), (4, 5), (5, 1), (7, 3), (6, 7)] {
            assert_eq!(visible(id(crm, op2), u64::MAX), 0, "({crm}, {op2})");
        }
    }

    #[test]
    fn a_processor_with_everything_shows_what_is_virtualized() {
        assert_eq!(
            visible(id(4, 0), 0x1111_1121_1111_1122),
            0x1101_0000_0111_0012,
            "EL1 in AArch64 only, no SVE, no RAS"
        );
        assert_eq!(visible(id(4, 1), 0x0000_0000_0102_0321), 0x21, "no MTE, no SME");
        assert_eq!(visible(id(5, 0), 0x0011_f111_1030_560a), 0x0000_00f0_1030_5008, "no counters, no profiling");
        assert_eq!(visible(id(7, 0), 0x1000_0222_1121_1126), 0x0000_0000_0111_0122, "40 bits, no LPA2, no FGT, no ECV");
        assert_eq!(visible(id(7, 0), 0xf120_0000) >> 28, 15, "a granule that is missing stays missing");
        assert_eq!(visible(id(7, 1), 0x0000_1111_1131_2123) & 0xf, 2);
        assert_eq!(visible(id(6, 1), u64::MAX) >> 56, 0, "no XS, no LS64");
        assert_eq!(visible(id(6, 2), 0x1_0001) & 0xf_000f, 0, "no WFIT, no MOPS");
    }

    #[test]
    fn less_than_what_may_be_shown_stays_less() {
        // Cortex-A72: ID_AA64PFR0_EL1, ID_AA64MMFR0_EL1 (44 bits), ID_AA64DFR0_EL1.
        assert_eq!(visible(id(4, 0), 0x2222), 0x0100_0012);
        assert_eq!(visible(id(7, 0), 0x1124), 0x1122 & !0xf000);
        assert_eq!(visible(id(7, 0), 0x1120) & 0xf, 0, "32 bits stay 32");
        assert_eq!(visible(id(5, 0), 0x1030_5106), 0xf0_1030_5006);
    }

    #[test]
    fn names_are_in_the_space_that_is_trapped_and_stand_once() {
        for (n, how) in TABLE.iter().enumerate() {
            assert!(is_id(id(how.name.0, how.name.1)));
            assert!(TABLE[..n].iter().all(|other| other.name != how.name), "{:?}", how.name);
            for (at, _) in how.most {
                assert_eq!(how.keep >> at & 0xf, 0xf, "{:?}: a limit on a hidden field", how.name);
            }
        }
        assert!(
            !is_id(SysReg::new(3, 0, 0, 0, 0))
                && !is_id(SysReg::new(3, 0, 0, 8, 0))
                && !is_id(SysReg::new(3, 1, 0, 1, 0))
        );
    }
}
