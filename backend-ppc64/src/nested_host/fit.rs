//! What of L1's blocks hardware is given, and what L1 is told afterwards.

use super::status;
use crate::vcpu::exits::HFSCR;
use crate::vcpu::layout::{HvGuestState, Registers};
use crate::vcpu::msr::{DR, EE, HV, IR, LE, LPCR_AIL, LPCR_ILE, LPCR_MER, ME, PR, RI, SF, SRR1_CAUSE};

/// Machine state that an L2 may be given: no hypervisor state, no secure state, no transactions. Of these bits VEC, VSX, FP,
/// FE0, SE, BE, FE1 and PMM have no names elsewhere.
const STATE: u64 =
    SF | EE | PR | ME | IR | DR | RI | LE | 1 << 25 | 1 << 23 | 1 << 13 | 1 << 11 | 1 << 10 | 1 << 9 | 1 << 8 | 1 << 2;
/// Machine state: a transaction is under way.
const TRANSACTION: u64 = 3 << 33;
/// LPCR: how deep streams are fetched ahead.
const LPCR_DPFD: u64 = 7 << 52;
/// LPCR: the large decrementer.
const LPCR_LD: u64 = 1 << 17;
/// What of LPCR is L1's to choose for L2.
const LPCR: u64 = LPCR_DPFD | LPCR_ILE | LPCR_AIL | LPCR_LD | LPCR_MER;
/// Tokens above this are wrong: what is kept for each vCPU of an L2 is bounded.
pub const MAX_TOKEN: u32 = 2047;

/// Whether an L2 in this state can be entered at all.
pub fn check(state: &HvGuestState, registers: &Registers) -> Result<(), i64> {
    if registers.msr & TRANSACTION != 0 {
        return Err(status::BAD_MODE);
    }
    // The timebase is one and the same for everybody here.
    if state.vcpu_token > MAX_TOKEN || state.tb_offset != 0 {
        return Err(status::PARAMETER);
    }
    Ok(())
}

/// L2's state as hardware gets it, in the partition `lpid`. `l1` is what its hypervisor may have itself.
#[must_use]
pub fn state(given: &HvGuestState, l1: &HvGuestState, lpid: u32) -> HvGuestState {
    HvGuestState {
        version: l1.version,
        lpid,
        lpcr: given.lpcr & LPCR,
        amor: l1.amor,
        hfscr: given.hfscr & l1.hfscr & HFSCR,
        ..given.clone()
    }
}

/// L2's machine state as hardware gets it.
#[must_use]
pub const fn machine_state(given: u64) -> u64 {
    (given & STATE & !HV) | ME
}

/// Writes into L1's block what L2 has left, by `vector`: what it may change itself, and what the vector comes with.
pub fn report(given: &mut HvGuestState, left: &HvGuestState, vector: u64) {
    given.dpdes = left.dpdes;
    given.vtb = left.vtb;
    (given.srr0, given.srr1, given.sprg) = (left.srr0, left.srr1, left.sprg);
    (given.pidr, given.ppr) = (left.pidr, left.ppr);
    match vector {
        0xe00 => (given.hdar, given.hdsisr, given.asdr) = (left.hdar, left.hdsisr, left.asdr),
        0xe20 => given.asdr = left.asdr,
        0xe40 => given.heir = left.heir,
        // Which facility it was is in the top byte.
        0xf80 => given.hfscr = (given.hfscr << 8 >> 8) | (left.hfscr & 0xff << 56),
        _ => {}
    }
}

/// The machine state that L1 is told: for a fetch's fault with its cause, which hardware has there.
#[must_use]
pub const fn told(msr: u64, vector: u64, status: u64) -> u64 {
    let cause = if vector == 0xe20 { status & SRR1_CAUSE } else { 0 };
    (msr & !HV) | cause
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vcpu::layout::VERSION;

    fn l1() -> HvGuestState {
        HvGuestState { version: VERSION, lpid: 1, amor: u64::MAX, hfscr: HFSCR, ..HvGuestState::default() }
    }

    /// Every bit of L1's words at once, and each by itself.
    fn words() -> impl Iterator<Item = u64> {
        (0..64).map(|bit| 1 << bit).chain([0, u64::MAX])
    }

    #[test]
    fn r26_no_word_of_l1_leads_out_of_a_guests_state() {
        for word in words() {
            let msr = machine_state(word);
            assert_eq!(msr & (HV | TRANSACTION | 1 << 22 | 1 << 32), 0, "hypervisor, secure, transactions: {word:#x}");
            assert_eq!(msr & ME, ME);
            let given = HvGuestState { lpcr: word, hfscr: word, lpid: 77, amor: word, ..HvGuestState::default() };
            let fitted = state(&given, &l1(), 200);
            // HR, UPRT, GTSE, HVICE, HDICE, PECE, VPM and LPES are not L1's.
            let ours = 1 << 20 | 1 << 22 | 1 << 10 | 3 | 0x1_f000 | 3 << 62 | 3 << 2;
            assert_eq!(fitted.lpcr & ours, 0, "{word:#x}");
            assert_eq!((fitted.lpid, fitted.amor, fitted.hfscr & !HFSCR), (200, u64::MAX, 0));
        }
    }

    #[test]
    fn an_l2_has_no_facility_that_its_hypervisor_lacks() {
        let l1 = HvGuestState { hfscr: 1 << 10 | 1, ..l1() };
        let given = HvGuestState { hfscr: u64::MAX, ..HvGuestState::default() };
        assert_eq!(state(&given, &l1, 9).hfscr, 1 << 10 | 1);
    }

    #[test]
    fn what_l2_is_to_have_reaches_it() {
        let lpcr = LPCR_ILE | LPCR_AIL | LPCR_LD | LPCR_MER;
        let given = HvGuestState { lpcr, sprg: [1, 2, 3, 4], srr0: 5, pidr: 6, vtb: 7, ..HvGuestState::default() };
        let fitted = state(&given, &l1(), 9);
        assert_eq!((fitted.lpcr, fitted.sprg, fitted.srr0), (lpcr, [1, 2, 3, 4], 5));
        assert_eq!((fitted.pidr, fitted.vtb), (6, 7));
        assert_eq!(machine_state(SF | EE | PR | IR | DR | RI | LE), SF | EE | PR | IR | DR | RI | LE | ME);
    }

    #[test]
    fn states_that_cannot_be_entered_are_refused() {
        let good = (HvGuestState::default(), Registers::default());
        assert_eq!(check(&good.0, &good.1), Ok(()));
        for msr in [1 << 33, 1 << 34] {
            assert_eq!(check(&good.0, &Registers { msr, ..Registers::default() }), Err(status::BAD_MODE));
        }
        for state in [
            HvGuestState { tb_offset: -1, ..good.0.clone() },
            HvGuestState { vcpu_token: MAX_TOKEN + 1, ..good.0.clone() },
            HvGuestState { vcpu_token: u32::MAX, ..good.0 },
        ] {
            assert_eq!(check(&state, &good.1), Err(status::PARAMETER));
        }
    }

    #[test]
    fn l1_is_told_what_the_vector_comes_with_and_nothing_of_ours() {
        let left = HvGuestState {
            version: 99,
            lpid: 200,
            lpcr: u64::MAX,
            amor: 1,
            hdec_expiry: 1,
            hfscr: 0x0a << 56 | 1,
            hdar: 11,
            hdsisr: 12,
            asdr: 13,
            heir: 14,
            srr0: 15,
            sprg: [1, 2, 3, 4],
            pidr: 16,
            ..HvGuestState::default()
        };
        let before = HvGuestState { version: 1, lpid: 7, lpcr: 3, hfscr: 5, hdec_expiry: 8, ..HvGuestState::default() };
        for (vector, faults, heir, hfscr) in [
            (0xc00, (0, 0, 0), 0, 5),
            (0xe00, (11, 12, 13), 0, 5),
            (0xe20, (0, 0, 13), 0, 5),
            (0xe40, (0, 0, 0), 14, 5),
            (0xf80, (0, 0, 0), 0, 0x0a << 56 | 5),
        ] {
            let mut told = before.clone();
            report(&mut told, &left, vector);
            assert_eq!((told.version, told.lpid, told.lpcr, told.amor, told.hdec_expiry), (1, 7, 3, 0, 8));
            assert_eq!((told.srr0, told.sprg, told.pidr), (15, [1, 2, 3, 4], 16));
            assert_eq!(
                ((told.hdar, told.hdsisr, told.asdr), told.heir, told.hfscr),
                (faults, heir, hfscr),
                "{vector:#x}"
            );
        }
        assert_eq!(told(SF | HV | EE, 0xc00, u64::MAX), SF | EE);
        assert_eq!(told(SF, 0xe20, 0x4000_0000 | 1 << 63), SF | 0x4000_0000);
    }
}
