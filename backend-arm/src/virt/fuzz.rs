//! Hostile guests: any access, any call, any message. Nothing panics, and every answer is one of ours (R26).

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof};
use proptest::proptest;
use proptest::sample::select;

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::Next;
use services_double::Double;

use super::layout::{GICD, GICR, GICR_BYTES, UART};
use super::{Device, Virt, psci};
use crate::vcpu::mmio::Width;
use crate::vgic::{Group, Lists, TimerLines};

const VCPUS: u16 = 3;

#[derive(Clone, Debug)]
enum Act {
    Read(u16, u64, Width),
    Write(u16, u64, Width, u64),
    Firmware([u64; 4]),
    Message(u16, u64, Group),
    Type,
    Look(u16, u32),
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..32_u64, (0..64_u32).prop_map(|n| 1 << n), (0..64_u32).prop_map(|n| !0 >> n)]
}

fn address() -> impl Strategy<Value = u64> {
    let bases = select(&[GICD.0, GICR.0, GICR.0 + 0x1_0000, GICR.0 + GICR_BYTES * 2, UART.0][..]);
    prop_oneof![
        (bases, prop_oneof![0..0x1000_u64, 0..0x1_0000_u64]).prop_map(|(base, at)| base + at),
        (GICD.0..UART.0 + 0x2000),
        any::<u64>(),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let width = || select(&[Width::Byte, Width::Half, Width::Word, Width::Double][..]);
    let number = prop_oneof![select(&psci::FUNCTIONS[..]).prop_map(|(number, _)| number.into()), value()];
    prop_oneof![
        (0..VCPUS, address(), width()).prop_map(|(by, at, width)| Act::Read(by, at, width)),
        (0..VCPUS, address(), width(), value()).prop_map(|(by, at, width, value)| Act::Write(by, at, width, value)),
        (number, value(), value(), value()).prop_map(|(n, a, b, c)| Act::Firmware([n, a, b, c])),
        (0..VCPUS, value(), select(&[Group::Zero, Group::One][..]))
            .prop_map(|(by, v, group)| Act::Message(by, v, group)),
        proptest::strategy::Just(Act::Type),
        (0..VCPUS, any::<u32>()).prop_map(|(vcpu, timers)| Act::Look(vcpu, timers)),
    ]
}

proptest! {
    #[test]
    fn r26_no_guest_can_break_the_machine(acts in vec(act(), 1..120)) {
        let (virt, s) = (Virt::new(VCPUS).unwrap(), Double::new(VCPUS));
        let mut lists: Vec<Lists> = (0..VCPUS).map(|_| Lists::new(4)).collect();
        let take_home = |lists: &mut [Lists], by: u16, at: u64| {
            let lists = &mut lists[usize::from(by)];
            if Virt::shows_interrupts(Gpa(at)) {
                virt.gic().withdraw(by, lists, TimerLines::DOWN);
                assert_eq!(lists.used, 0);
            }
        };
        for act in acts {
            match act {
                Act::Read(by, at, width) => {
                    take_home(&mut lists, by, at);
                    let read = virt.read(by, Gpa(at), width, &s);
                    prop_assert_eq!(read.is_some(), Device::at(Gpa(at), VCPUS).is_some());
                    prop_assert!(read.unwrap_or(0) <= width.mask(), "{:#x}: {:x?}", at, read);
                }
                Act::Write(by, at, width, value) => {
                    take_home(&mut lists, by, at);
                    let written = virt.write(by, Gpa(at), width, value, &s);
                    prop_assert_eq!(written.is_some(), Device::at(Gpa(at), VCPUS).is_some());
                }
                Act::Firmware(call) => {
                    let mut registers = call;
                    let next = virt.psci(&mut registers, &s);
                    let known = psci::FUNCTIONS.iter().any(|(number, _)| *number == call[0] as u32);
                    prop_assert_eq!(&registers[1..], &call[1..]);
                    prop_assert!(matches!(registers[0] as i64, -9 | -4 | -2..=2 | 0x1_0001));
                    prop_assert!(known || registers[0] as i64 == -1 && next == Next::Resume);
                }
                Act::Message(by, value, group) => virt.sgi(by, value, group, &s),
                Act::Type => {
                    s.type_in(b"typed");
                    prop_assert!(virt.typed().is_none_or(|vcpu| vcpu < VCPUS));
                }
                Act::Look(vcpu, timers) => {
                    let lists = &mut lists[usize::from(vcpu)];
                    virt.gic().fold(vcpu, lists);
                    let _ = virt.gic().fill(vcpu, lists, TimerLines(timers));
                    virt.gic().wake(lists, &s);
                    prop_assert_eq!(lists.used >> 4, 0);
                }
            }
        }
    }
}
