//! Hostile guests: any register, any value, by either face. And a model of what is to be delivered, as the manual has it.

use std::collections::BTreeSet;

use hv_core::machine::Instant;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};
use services_double::Double;

use super::message::{Destination, Message, Trigger};
use super::{Apics, Clock, Delivery, Event, Local};
use crate::bus::Width;

const VCPUS: u16 = 3;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    Memory { vcpu: u16, offset: u64, width: Width, value: u64 },
    Msr { vcpu: u16, msr: u32, value: u64 },
    Base { vcpu: u16, value: u64 },
    Deadline { vcpu: u16, tsc: u64, offset: u64 },
    Device { to: u8, command: u32 },
    Pass(u64),
    Take(u16),
}

fn width() -> impl Strategy<Value = Width> {
    proptest::sample::select(&[Width::Double, Width::Double, Width::Double, Width::Byte, Width::Word, Width::Quad][..])
}

fn value() -> impl Strategy<Value = u64> {
    let command = (any::<u8>(), any::<u32>()).prop_map(|(id, low)| u64::from(id) << 56 | u64::from(low & 0xf_ffff));
    prop_oneof![Just(0_u64), Just(0x1ff), 0..0x100_u64, command, (0..64_u32).prop_map(|n| 1 << n), any::<u64>()]
}

use proptest::strategy::Just;

fn act() -> impl Strategy<Value = Act> {
    let vcpu = || 0..VCPUS;
    let register = || prop_oneof![0..0x40_u32, 0..0x100_u32];
    let base = prop_oneof![(0..4_u64, 0..2_u64).prop_map(|(mode, boot)| 0xfee0_0000 | mode << 10 | boot << 8), value()];
    prop_oneof![
        4 => (vcpu(), register(), 0..18_u64, width(), value()).prop_map(|(vcpu, register, off, width, value)| {
            let offset = u64::from(register) * 16 + if off == 17 { 3 } else { 0 };
            Act::Memory { vcpu, offset, width, value }
        }),
        4 => (vcpu(), register(), value()).prop_map(|(vcpu, register, value)| Act::Msr { vcpu, msr: 0x800 + register, value }),
        1 => (vcpu(), base).prop_map(|(vcpu, value)| Act::Base { vcpu, value }),
        1 => (vcpu(), value(), value()).prop_map(|(vcpu, tsc, offset)| Act::Deadline { vcpu, tsc, offset }),
        2 => (any::<u8>(), any::<u32>()).prop_map(|(to, command)| Act::Device { to, command }),
        1 => prop_oneof![0..1000_u64, any::<u64>()].prop_map(Act::Pass),
        2 => vcpu().prop_map(Act::Take),
    ]
}

proptest! {
    /// R26: nothing panics; what is offered may be delivered; a reset leaves nothing behind; priorities stay in order.
    #[test]
    fn r26_no_guest_can_break_a_local_apic(acts in vec(act(), 1..80)) {
        let (apics, s) = (Apics::new(VCPUS).unwrap(), Double::new(VCPUS));
        let mut locals: Vec<Local> = (0..VCPUS).map(|n| Local::new(n, 1_000_000_000)).collect();
        let mut now = Instant(0);
        for act in acts {
            match act {
                Act::Memory { vcpu, offset, width, value } => {
                    let local = &mut locals[usize::from(vcpu)];
                    local.write(&apics, offset, width, value, now).rouse.carry_out(Some(vcpu), &apics, &s);
                    prop_assert_eq!(local.read(&apics, offset, width, now) & !0xffff_ffff, 0);
                }
                Act::Msr { vcpu, msr, value } => {
                    let local = &mut locals[usize::from(vcpu)];
                    if let Ok(outcome) = local.write_msr(&apics, msr, value, now) {
                        outcome.rouse.carry_out(Some(vcpu), &apics, &s);
                    }
                    let _ = local.read_msr(&apics, msr, now);
                }
                Act::Base { vcpu, value } => {
                    let local = &mut locals[usize::from(vcpu)];
                    let took = local.set_base(&apics, value);
                    prop_assert!(took.is_err() || local.base() == value);
                }
                Act::Deadline { vcpu, tsc, offset } => {
                    let clock = Clock { now, offset };
                    locals[usize::from(vcpu)].set_deadline(tsc, clock);
                    locals[usize::from(vcpu)].retime(clock);
                }
                Act::Device { to, command } => {
                    let delivery = Delivery::from_bits(command);
                    let trigger = if command & 1 << 15 != 0 { Trigger::Level } else { Trigger::Edge };
                    let message = Message { delivery, vector: command as u8, trigger };
                    let logical = command & 1 << 11 != 0;
                    let to = if logical { Destination::Logical8(to) } else { Destination::Physical8(to) };
                    apics.send(None, to, message).carry_out(None, &apics, &s);
                }
                Act::Pass(ticks) => now = now.after(ticks),
                Act::Take(vcpu) => {
                    let local = &mut locals[usize::from(vcpu)];
                    local.tick(&apics, now);
                    let event = local.look(&apics);
                    if event.is_some() {
                        prop_assert!(local.in_service == [0; 8] && local.due().is_none());
                        prop_assert_eq!(event == Some(Event::Restart), vcpu == 0);
                    }
                    let _ = local.take_nmi(&apics);
                    let before = local.ppr();
                    prop_assert_eq!(local.offered().is_some(), local.interrupt_waits(&apics));
                    if let Some(vector) = local.acknowledge(&apics) {
                        prop_assert!(vector >= 16 && vector >> 4 > before >> 4);
                        prop_assert_eq!(local.ppr(), vector & 0xf0);
                    }
                    // A timer that stays due would keep its vCPU from running.
                    prop_assert!(local.due().is_none_or(|due| due > now) || now.0 > u64::MAX / 2);
                }
            }
        }
    }

    /// Delivery is what the manual's words make it: the highest pending vector, if its class is above that of the highest in
    /// service and of the task priority.
    #[test]
    fn delivery_agrees_with_a_model(steps in vec((0..4_u8, 16..=255_u8), 1..200)) {
        let apics = Apics::new(1).unwrap();
        let mut local = Local::new(0, 1_000_000);
        let _ = local.write(&apics, 0xf0, Width::Double, 0x1ff, Instant(0));
        let (mut pending, mut served, mut tpr) = (BTreeSet::new(), BTreeSet::new(), 0_u8);
        for (what, number) in steps {
            match what {
                0 => {
                    let message = Message { delivery: Delivery::Fixed, vector: number, trigger: Trigger::Edge };
                    let _ = apics.send(None, Destination::Physical8(0), message);
                    pending.insert(number);
                }
                1 => {
                    tpr = number;
                    local.set_tpr(number);
                }
                2 => {
                    served.pop_last();
                    let _ = local.write(&apics, 0xb0, Width::Double, 0, Instant(0));
                }
                _ => {
                    let floor = served.last().copied().unwrap_or(0_u8).max(tpr) / 16;
                    let expected = pending.last().copied().filter(|vector| vector / 16 > floor);
                    if let Some(vector) = expected {
                        pending.remove(&vector);
                        served.insert(vector);
                    }
                    prop_assert_eq!(local.wants_look(&apics) || expected.is_none() || local.offered() == expected, true);
                    prop_assert_eq!(local.look(&apics), None);
                    prop_assert_eq!(local.acknowledge(&apics), expected);
                }
            }
        }
    }
}
