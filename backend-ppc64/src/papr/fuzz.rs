//! Hostile guests: any call, any arguments, any memory. Nothing panics, nothing hangs, every answer is one of ours (R26).

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::double::{Calls as _, Double, MEMORY};
use super::hcall::{ALL, Hcall};
use super::rtas::token;
use super::{LPCR_AIL, LPCR_ILE, MSR_EE, Papr, VTY_UNIT};

const VCPUS: u16 = 3;

/// Values near every limit that the code knows, and any other.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..8_u64,
        (0..64_u32, 0..3_u64).prop_map(|(shift, n)| (1_u64 << shift).wrapping_add(n).wrapping_sub(1)),
        (0..MEMORY as u64 / 64).prop_map(|n| n * 64),
        (0..256_u64).prop_map(|n| MEMORY as u64 - 128 + n),
        proptest::strategy::Just(VTY_UNIT.into()),
        (1..8_u64).prop_map(|f| f << 45),
        any::<u64>(),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        proptest::sample::select(&ALL[..]).prop_map(|c| c as u64),
        (0..0x500_u64).prop_map(|n| n * 4),
        any::<u64>()
    ]
}

/// One thing a guest does.
#[derive(Clone, Debug)]
enum Act {
    Poke(u64, [u8; 8]),
    Call { vcpu: u16, number: u64, args: Vec<u64> },
    Firmware { vcpu: u16, token: u32, counts: Option<(u32, u32)>, args: Vec<u32> },
    Off(u16),
    On(u16),
    Typed,
}

fn act() -> impl Strategy<Value = Act> {
    let tokens = proptest::sample::select(&token::ALL[..]).prop_map(|t| t as u32);
    let cell = prop_oneof![0..8_u32, 0x0ff8..0x1008_u32, value().prop_map(|v| v as u32), any::<u32>()];
    prop_oneof![
        ((0..MEMORY as u64 / 8), any::<[u8; 8]>()).prop_map(|(n, b)| Act::Poke(n * 8, b)),
        (0..VCPUS, number(), vec(value(), 0..9)).prop_map(|(vcpu, number, args)| Act::Call { vcpu, number, args }),
        (0..VCPUS, prop_oneof![tokens, any::<u32>()], proptest::option::of(any::<(u32, u32)>()), vec(cell, 16))
            .prop_map(|(vcpu, token, counts, args)| Act::Firmware { vcpu, token, counts, args }),
        (0..VCPUS).prop_map(Act::Off),
        (0..VCPUS).prop_map(Act::On),
        proptest::strategy::Just(Act::Typed),
    ]
}

/// What a call may answer.
fn well_formed(nr: u64, status: i64) -> bool {
    let known = ALL.into_iter().any(|c| c as u64 == nr);
    if known { matches!(status, 0 | -4..=-1 | -16 | -57..=-55 | -256) || status == -2 } else { status == -2 }
}

/// Makes one call and checks what every call must keep to. A call that failed has changed no register but r3.
fn call(p: &Papr, s: &Double, vcpu: u16, nr: u64, args: &[u64]) -> Result<(), proptest::test_runner::TestCaseError> {
    let (r, msr, _) = s.call_with_msr(p, vcpu, nr, args, 0);
    let status = r[3] as i64;
    prop_assert!(well_formed(nr, status), "{nr:#x} {args:x?} answered {status}");
    if status != 0 {
        prop_assert_eq!(&r[4..4 + args.len()], args);
    }
    prop_assert_eq!(msr, if nr == Hcall::Cede as u64 { MSR_EE } else { 0 });
    prop_assert_eq!(p.lpcr() & !(LPCR_ILE | LPCR_AIL), 0);
    prop_assert_eq!(p.process_table() >> 60, 8);
    Ok(())
}

proptest! {
    #[test]
    fn r26_no_guest_can_break_the_personality(acts in vec(act(), 1..60)) {
        let (p, s) = (Papr::new(VCPUS).unwrap(), Double::new(VCPUS));
        for act in acts {
            match act {
                Act::Poke(at, bytes) => s.poke(at, &bytes),
                Act::Call { vcpu, number, args } => call(&p, &s, vcpu, number, &args)?,
                Act::Firmware { vcpu, token, counts, args } => {
                    let right = token::Token::from_number(token).map_or((0, 1), token::Token::cells);
                    let (nargs, nret) = counts.unwrap_or((right.0 as u32, right.1 as u32));
                    let cells = [token, nargs, nret].into_iter().chain(args);
                    s.poke(0x800, &cells.flat_map(u32::to_be_bytes).collect::<Vec<_>>());
                    call(&p, &s, vcpu, Hcall::Rtas as u64, &[0x800])?;
                }
                Act::Off(vcpu) => p.preempted(vcpu, &s),
                Act::On(vcpu) => p.dispatched(vcpu, &s),
                Act::Typed => {
                    s.type_in(b"x");
                    let _ = p.xics.raise(super::VTY_SOURCE);
                }
            }
            for vcpu in 0..VCPUS {
                prop_assert!(p.wanted(vcpu) || !p.interrupt(vcpu));
            }
        }
    }
}
