use hv_core::machine::Instant;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::{IoApic, PINS};
use crate::apic::{Apics, Local, Rouse};
use crate::bus::{Level, Width};

const NOW: Instant = Instant(0);
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const REMOTE_IRR: u64 = 1 << 14;

fn vm() -> (Apics, Local, IoApic) {
    let (apics, mut local) = (Apics::new(2).unwrap(), Local::new(0, 1_000_000));
    let _ = local.write(&apics, 0xf0, Width::Double, 0x1ff, NOW);
    (apics, local, IoApic::new())
}

fn set(io: &mut IoApic, apics: &Apics, register: u8, value: u32) -> Rouse {
    let _ = io.write(apics, 0, Width::Byte, register.into());
    io.write(apics, 0x10, Width::Double, value.into())
}

fn get(io: &mut IoApic, apics: &Apics, register: u8) -> u64 {
    let _ = io.write(apics, 0, Width::Double, register.into());
    io.read(0x10, Width::Double)
}

fn taken(local: &mut Local, apics: &Apics) -> Option<u8> {
    let _ = local.look(apics);
    local.acknowledge(apics)
}

#[test]
fn an_edge_is_told_once_and_lost_if_masked() {
    let (apics, mut local, mut io) = vm();
    let _ = io.set_line(&apics, 4, Level::High);
    assert_eq!(set(&mut io, &apics, 0x18, 0x30), Rouse::NOBODY);
    let _ = io.set_line(&apics, 4, Level::High);
    assert_eq!(taken(&mut local, &apics), None);
    let _ = io.set_line(&apics, 4, Level::Low);
    assert_ne!(io.set_line(&apics, 4, Level::High), Rouse::NOBODY);
    assert_eq!((taken(&mut local, &apics), taken(&mut local, &apics)), (Some(0x30), None));
    assert_eq!(local.write(&apics, 0xb0, Width::Double, 0, NOW).ended, None);
}

#[test]
fn a_level_comes_again_until_its_line_falls() {
    let (apics, mut local, mut io) = vm();
    let _ = io.set_line(&apics, 9, Level::High);
    assert_ne!(set(&mut io, &apics, 0x22, 0x51 | LEVEL), Rouse::NOBODY);
    assert_eq!(get(&mut io, &apics, 0x22), 0x51 | u64::from(LEVEL) | REMOTE_IRR);
    for _ in 0..2 {
        assert_eq!(taken(&mut local, &apics), Some(0x51));
        // Not again before it is over.
        let _ = io.set_line(&apics, 9, Level::High);
        assert_eq!(local.write(&apics, 0xb0, Width::Double, 0, NOW).ended, Some(0x51));
        let _ = io.end(&apics, 0x51);
    }
    assert_eq!(taken(&mut local, &apics), Some(0x51));
    let _ = io.set_line(&apics, 9, Level::Low);
    let _ = local.write(&apics, 0xb0, Width::Double, 0, NOW);
    assert_eq!(io.end(&apics, 0x51), Rouse::NOBODY);
    assert_eq!((taken(&mut local, &apics), get(&mut io, &apics, 0x22)), (None, 0x51 | u64::from(LEVEL)));
}

#[test]
fn a_level_made_an_edge_is_forgotten() {
    let (apics, _, mut io) = vm();
    let _ = set(&mut io, &apics, 0x12, 0x40 | LEVEL);
    let _ = io.set_line(&apics, 1, Level::High);
    assert_eq!(get(&mut io, &apics, 0x12) & REMOTE_IRR, REMOTE_IRR);
    let _ = set(&mut io, &apics, 0x12, 0x40 | MASKED);
    let _ = set(&mut io, &apics, 0x12, 0x40 | LEVEL | MASKED);
    assert_eq!(get(&mut io, &apics, 0x12), u64::from(0x40 | LEVEL | MASKED));
}

#[test]
fn it_says_what_it_is() {
    let (apics, _, mut io) = vm();
    assert_eq!(get(&mut io, &apics, 1), 0x0017_0011);
    assert_eq!(get(&mut io, &apics, 0x10), u64::from(MASKED));
    let _ = set(&mut io, &apics, 0, u32::MAX);
    assert_eq!((get(&mut io, &apics, 0), get(&mut io, &apics, 2)), (0x0f00_0000, 0x0f00_0000));
    assert_eq!((get(&mut io, &apics, 0x40), io.read(0x20, Width::Double)), (0, 0));
    // Only 32 bits at once change an entry.
    let _ = io.write(&apics, 0, Width::Byte, 0x10);
    let _ = io.write(&apics, 0x10, Width::Byte, 0x33);
    assert_eq!(get(&mut io, &apics, 0x10), u64::from(MASKED));
}

#[test]
fn devices_start_no_processor() {
    let (apics, _, mut io) = vm();
    let _ = set(&mut io, &apics, 0x11, 0x0100_0000);
    let _ = set(&mut io, &apics, 0x10, 0x69a);
    assert_eq!(io.set_line(&apics, 0, Level::High), Rouse::NOBODY);
}

proptest! {
    /// R26, and: what is pending at a level is remembered exactly as long as its line or its end make it.
    #[test]
    fn r26_no_guest_can_break_the_io_apic(acts in vec((0..5_u8, any::<u8>(), prop_oneof![
        any::<u32>(), (any::<u8>(), any::<u8>()).prop_map(|(a, b)| u32::from(a) | u32::from(b) << 8),
    ]), 1..100)) {
        let (apics, mut local, mut io) = vm();
        for (what, a, value) in acts {
            match what {
                0 => _ = set(&mut io, &apics, a % 0x48, value),
                1 => _ = io.write(&apics, a.into(), Width::Quad, value.into()),
                2 => {
                    let _ = io.set_line(&apics, (a % 32).into(), if value & 1 == 0 { Level::Low } else { Level::High });
                }
                3 => {
                    let _ = taken(&mut local, &apics);
                    if let Some(vector) = local.write(&apics, 0xb0, Width::Double, 0, NOW).ended {
                        let _ = io.end(&apics, vector);
                    }
                }
                _ => _ = io.read(a.into(), Width::Quad),
            }
            for pin in 0..PINS {
                let e = io.entries[pin];
                prop_assert!(e & u64::from(LEVEL) != 0 || e & REMOTE_IRR == 0);
                let wanting = io.lines >> pin & 1 != 0 && e & u64::from(LEVEL | MASKED) == u64::from(LEVEL);
                prop_assert!(!wanting || e & REMOTE_IRR != 0, "pin {} is up and nobody was told", pin);
                prop_assert_eq!(e & !(0xff << 56 | 0x1_efff), 0);
            }
        }
    }
}
