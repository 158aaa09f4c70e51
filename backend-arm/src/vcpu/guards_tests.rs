//! The guards' values, by the manual's bit numbers.

use super::{Debug, Extras, Float, Ids};

#[test]
fn a_processor_without_extras_gets_no_bit_that_is_reserved_there() {
    let plain = Extras::of(&Ids { pfr0: 0x2222, dfr0: 0x1030_5106, ..Ids::default() });
    assert_eq!(plain.hcr(), 0x803c_663b);
    assert_eq!(plain, Extras { pmu: true, breakpoints: 6, watchpoints: 4, ..Extras::default() });
    assert_eq!(plain.cptr(Float::Trapped), 0x0010_37ff);
    assert_eq!(plain.cptr(Float::Lent), 0x0010_33ff);
    assert_eq!(plain.mdcr(Debug::Trapped, 6), 6 | 0xe60);
    assert_eq!(plain.mdcr(Debug::Lent, 6), 6 | 0xc60);
}

#[test]
fn extras_bring_their_guards() {
    let of = |isar1, isar2| Extras::of(&Ids { isar1, isar2, ..Ids::default() }).pauth;
    assert!(of(1 << 4, 0) && of(1 << 8, 0) && of(0, 1 << 12) && !of(!0xff0, !0xf000));
    let all = Extras::of(&Ids {
        pfr0: 1 << 28 | 1 << 32 | 1 << 40 | 1 << 44,
        pfr1: 1 << 24,
        dfr0: 1 << 32 | 1 << 40 | 0xf << 8,
        isar1: 1 << 4,
        isar2: 0,
        mmfr0: 1 << 56,
        mmfr1: 1 << 16 | 1 << 40,
    });
    assert_eq!(all.hcr() ^ super::HCR, 1 << 35 | 1 << 36 | 1 << 40 | 1 << 41);
    assert!(all.hcx && all.sve && all.sme && !all.pmu, "a performance monitor of its own kind (0xf) has no such traps");
    assert_eq!(all.cptr(Float::Trapped) & (1 << 30 | 1 << 12 | 1 << 8), 1 << 30 | 1 << 12 | 1 << 8);
    assert_eq!(all.mdcr(Debug::Trapped, 31), 0xe00 | 1 << 14 | 1 << 19);
}
