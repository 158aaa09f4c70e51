//! What a guest's kernel relies on, one thing after the other.

use hv_core::machine::Instant;
use services_double::Double;

use super::message::{Destination, Message, Trigger};
use super::{Apics, Clock, Delivery, Event, Local, Outcome, Rouse};
use crate::bus::{GeneralProtection, Width};

const NOW: Instant = Instant(0);
const ENABLE: u64 = 0x1ff;

fn vm(vcpus: u16) -> (Apics, Vec<Local>) {
    let apics = Apics::new(vcpus).unwrap();
    let mut locals: Vec<Local> = (0..vcpus).map(|n| Local::new(n, 1_000_000)).collect();
    for local in &mut locals {
        let _ = local.write(&apics, 0xf0, Width::Double, ENABLE, NOW);
    }
    (apics, locals)
}

fn vm_x2(vcpus: u16) -> (Apics, Vec<Local>) {
    let (apics, mut locals) = vm(vcpus);
    for local in &mut locals {
        local.set_base(&apics, local.base() | 1 << 10).unwrap();
    }
    (apics, locals)
}

fn write(local: &mut Local, apics: &Apics, offset: u64, value: u64) -> Outcome {
    local.write(apics, offset, Width::Double, value, NOW)
}

fn read(local: &mut Local, apics: &Apics, offset: u64) -> u64 {
    local.read(apics, offset, Width::Double, NOW)
}

fn fixed(vector: u8) -> Message {
    Message { delivery: Delivery::Fixed, vector, trigger: Trigger::Edge }
}

fn taken(local: &mut Local, apics: &Apics) -> Option<u8> {
    assert_eq!(local.look(apics), None);
    local.acknowledge(apics)
}

#[test]
fn an_interrupt_that_the_processor_has_not_taken_pends_again_behind_more_urgent_ones() {
    let (apics, mut locals) = vm(1);
    let local = &mut locals[0];
    for (vector, trigger) in [(0x31, Trigger::Level), (0x35, Trigger::Edge)] {
        let _ = apics.send(None, Destination::Physical8(0), Message { trigger, ..fixed(vector) });
    }
    assert_eq!(taken(local, &apics), Some(0x35));
    local.put_back(&apics, 0x35);
    assert!(local.wants_look(&apics), "it is offered anew without another message");
    assert_eq!((read(local, &apics, 0x110), read(local, &apics, 0x210)), (0, 1 << 17 | 1 << 21), "ISR, IRR");
    let _ = apics.send(None, Destination::Physical8(0), fixed(0x82));
    assert_eq!(taken(local, &apics), Some(0x82));
    let _ = write(local, &apics, 0xb0, 0);
    assert_eq!((taken(local, &apics), taken(local, &apics)), (Some(0x35), None), "once");
    let _ = write(local, &apics, 0xb0, 0);
    assert_eq!(taken(local, &apics), Some(0x31));
    local.put_back(&apics, 0x31);
    assert_eq!(taken(local, &apics), Some(0x31));
    assert_eq!(write(local, &apics, 0xb0, 0).ended, Some(0x31), "still a level");
}

#[test]
fn the_highest_priority_is_served_first_and_only_higher_classes_interrupt_it() {
    let (apics, mut locals) = vm(1);
    for vector in [0x31, 0x35, 0x82, 0x3f] {
        assert_eq!(apics.send(None, Destination::Physical8(0), fixed(vector)), Rouse(1));
    }
    let local = &mut locals[0];
    assert!(local.wants_look(&apics));
    assert_eq!((taken(local, &apics), taken(local, &apics)), (Some(0x82), None));
    assert_eq!((read(local, &apics, 0xa0), read(local, &apics, 0x140)), (0x80, 1 << 2));
    let _ = write(local, &apics, 0xb0, 0);
    assert_eq!(taken(local, &apics), Some(0x3f));
    // Of the same class: waits. A higher one does not.
    assert_eq!(taken(local, &apics), None);
    let _ = apics.send(None, Destination::Physical8(0), fixed(0x40));
    assert_eq!(taken(local, &apics), Some(0x40));
    let _ = write(local, &apics, 0xb0, 0);
    assert_eq!(taken(local, &apics), None, "0x3f is still in service");
    let _ = write(local, &apics, 0xb0, 0);
    assert_eq!(taken(local, &apics), Some(0x35));
}

#[test]
fn what_the_task_priority_alone_holds_back_is_awaited() {
    let (apics, mut locals) = vm(1);
    let local = &mut locals[0];
    let _ = apics.send(None, Destination::Physical8(0), fixed(0x31));
    assert_eq!(local.held_back(&apics), None, "nothing holds it back");
    local.set_tpr(0x20);
    assert_eq!(local.held_back(&apics), None, "a lower class does not");
    for tpr in [0x30, 0x3f, 0xf0] {
        local.set_tpr(tpr);
        assert_eq!(local.held_back(&apics), Some(3), "{tpr:#x}");
    }
    local.set_tpr(0);
    assert_eq!(taken(local, &apics), Some(0x31));
    let _ = apics.send(None, Destination::Physical8(0), fixed(0x32));
    local.set_tpr(0x40);
    assert_eq!(local.held_back(&apics), None, "the one that is served holds it back as well");
}

#[test]
fn task_priority_holds_back_and_lets_go() {
    let (apics, mut locals) = vm(1);
    let local = &mut locals[0];
    let _ = write(local, &apics, 0x80, 0x45);
    let _ = apics.send(None, Destination::Physical8(0), fixed(0x4f));
    assert_eq!((taken(local, &apics), local.interrupt_waits(&apics)), (None, false));
    assert_eq!(read(local, &apics, 0xa0), 0x45);
    local.set_tpr(0x30);
    assert!(local.wants_look(&apics) && local.interrupt_waits(&apics));
    assert_eq!(taken(local, &apics), Some(0x4f));
}

#[test]
fn only_the_end_of_a_level_is_told() {
    let (apics, mut locals) = vm(1);
    let local = &mut locals[0];
    for (vector, trigger) in [(0x51, Trigger::Level), (0x60, Trigger::Edge)] {
        let _ = apics.send(None, Destination::Physical8(0), Message { trigger, ..fixed(vector) });
    }
    assert_eq!(read(local, &apics, 0x1a0), 1 << 17);
    assert_eq!((taken(local, &apics), write(local, &apics, 0xb0, 0).ended), (Some(0x60), None));
    assert_eq!((taken(local, &apics), write(local, &apics, 0xb0, 0).ended), (Some(0x51), Some(0x51)));
    assert_eq!(write(local, &apics, 0xb0, 0), Outcome::NOTHING);
}

#[test]
fn processors_are_started_as_systems_do_it() {
    let (apics, mut locals) = vm(2);
    let s = Double::new(2);
    let command = |locals: &mut [Local], low| {
        let _ = write(&mut locals[0], &apics, 0x310, 1 << 24);
        write(&mut locals[0], &apics, 0x300, low).rouse.carry_out(Some(0), &apics, &s);
    };
    assert!(locals[1].is_held(&apics) && !locals[0].is_held(&apics));
    // INIT, its de-assertion, and two start-ups.
    for low in [0xc500, 0x8500, 0x69b, 0x69b] {
        command(&mut locals, low);
    }
    let starts = s.starts();
    assert_eq!((starts.len(), starts[0].0, starts[0].1.entry.0), (1, 1, 0x9_b000));
    assert_eq!(locals[1].look(&apics), Some(Event::Start(0x9b)));
    assert!(!locals[1].is_held(&apics));
    assert_eq!((locals[1].look(&apics), read(&mut locals[1], &apics, 0xf0)), (None, 0xff));
    // Switched off by its own system, and started anew: now it is awake, or is woken. Of before nothing is left.
    let _ = write(&mut locals[1], &apics, 0xf0, ENABLE);
    let _ = apics.send(None, Destination::Physical8(1), fixed(0x99));
    s.sleep();
    command(&mut locals, 0xc500);
    assert!(s.woken(1) && locals[1].event_waits(&apics));
    assert_eq!(locals[1].look(&apics), Some(Event::Init));
    assert!(locals[1].is_held(&apics) && !locals[1].event_waits(&apics) && !locals[1].interrupt_waits(&apics));
    command(&mut locals, 0x601);
    assert_eq!((locals[1].look(&apics), s.starts().len()), (Some(Event::Start(1)), 1));
}

#[test]
fn a_processor_that_begins_without_a_message_waits_for_none_and_misses_none() {
    let (apics, mut locals) = vm(2);
    let s = Double::new(2);
    locals[1].begun(&apics);
    assert!(!locals[1].is_held(&apics) && locals[1].look(&apics).is_none());
    for (low, event) in [(0x4500, Event::Init), (0x69b, Event::Start(0x9b))] {
        let _ = write(&mut locals[0], &apics, 0x310, 1 << 24);
        write(&mut locals[0], &apics, 0x300, low).rouse.carry_out(Some(0), &apics, &s);
        // Sent before it began, and seen after.
        locals[1].begun(&apics);
        assert_eq!(locals[1].look(&apics), Some(event));
    }
}

#[test]
fn broadcasts_leave_out_whom_they_should() {
    let (apics, mut locals) = vm_x2(3);
    let mut send = |icr| locals[1].write_msr(&apics, 0x830, icr, NOW).unwrap().rouse;
    assert_eq!(send(0x0_000c_0040), Rouse(0b101));
    assert_eq!(send(0x0_0008_0041), Rouse(0b111));
    assert_eq!(send(0x0_0004_0042), Rouse(0b010));
    assert_eq!(send(0xffff_ffff_0000_0043), Rouse(0b111));
    assert_eq!(send(0x0000_0005_0000_0844), Rouse(0b101), "logical");
    assert_eq!(send(0x0000_0005_0000_0844), Rouse(0), "they know already");
    assert_eq!(send(0x0_0008_0445), Rouse(0), "an NMI to everybody and oneself is not to be had");
}

#[test]
fn lowest_priority_goes_to_one_of_those_that_can_take_it() {
    let (apics, mut locals) = vm_x2(4);
    let _ = locals[2].write_msr(&apics, 0x80f, 0xff, NOW).unwrap();
    let to = |vector| {
        let message = Message { delivery: Delivery::Lowest, ..fixed(vector) };
        apics.send(None, Destination::Logical32(0x0f), message)
    };
    assert_eq!([0x30, 0x31, 0x32, 0x33].map(to), [Rouse(1), Rouse(2), Rouse(8), Rouse(1)]);
}

#[test]
fn switched_off_by_software_takes_no_interrupt_and_masks_its_own() {
    let (apics, mut locals) = vm(1);
    let local = &mut locals[0];
    let _ = write(local, &apics, 0x320, 0x2_0050);
    assert_eq!(read(local, &apics, 0x320), 0x2_0050);
    let _ = write(local, &apics, 0xf0, 0xff);
    assert_eq!(read(local, &apics, 0x320), 0x3_0050);
    let _ = write(local, &apics, 0x320, 0x50);
    assert_eq!(read(local, &apics, 0x320), 0x1_0050);
    assert_eq!(apics.send(None, Destination::Physical8(0), fixed(0x50)), Rouse::NOBODY);
}

#[test]
fn the_timer_fires_through_its_vector() {
    let (apics, mut locals) = vm(1);
    let local = &mut locals[0];
    let _ = write(local, &apics, 0x320, 0x4_00ec);
    let clock = Clock { now: Instant(100), offset: 0 };
    local.set_deadline(150, clock);
    assert_eq!((local.due(), local.deadline()), (Some(Instant(150)), 150));
    local.tick(&apics, Instant(149));
    assert_eq!(taken(local, &apics), None);
    local.tick(&apics, Instant(150));
    assert_eq!((taken(local, &apics), local.due(), local.deadline()), (Some(0xec), None, 0));
    let _ = write(local, &apics, 0xb0, 0);
    // Masked: it runs out unheard, and nobody is to be woken for it.
    let _ = write(local, &apics, 0x320, 0x1_00ec);
    let _ = write(local, &apics, 0x380, 10);
    assert_eq!((local.due(), read(local, &apics, 0x390)), (None, 10));
    local.tick(&apics, Instant(20));
    assert_eq!((taken(local, &apics), read(local, &apics, 0x390)), (None, 0));
    // The same if nobody looked meanwhile.
    let _ = write(local, &apics, 0x380, 10);
    let _ = local.write(&apics, 0x320, Width::Double, 0xec, Instant(1000));
    local.tick(&apics, Instant(1000));
    assert_eq!((taken(local, &apics), local.due()), (None, None));
}

#[test]
fn errors_are_collected_shown_and_told() {
    let (apics, mut locals) = vm(2);
    let _ = write(&mut locals[0], &apics, 0x370, 0xfe);
    let local = &mut locals[0];
    let _ = write(local, &apics, 0x300, 0x4_000f);
    assert_eq!(read(local, &apics, 0x280), 0, "shown after a write only");
    let _ = write(local, &apics, 0x280, 0);
    assert_eq!((read(local, &apics, 0x280), taken(local, &apics)), (1 << 5, Some(0xfe)));
    let _ = read(local, &apics, 0x3f0);
    let _ = apics.send(None, Destination::Physical8(0), fixed(3));
    let _ = local.look(&apics);
    let _ = write(local, &apics, 0x280, 0);
    assert_eq!(read(local, &apics, 0x280), 1 << 6 | 1 << 7);
    // A vector of errors that is itself an error ends there.
    let _ = write(local, &apics, 0x370, 0x00);
    let _ = write(local, &apics, 0x320, 0x01);
    let _ = write(local, &apics, 0x380, 1);
    local.tick(&apics, Instant(10));
    let _ = write(local, &apics, 0x280, 0);
    assert_eq!(read(local, &apics, 0x280), 1 << 6);
}

#[test]
fn the_faces_change_as_the_manual_allows() {
    let (apics, mut locals) = vm(2);
    let base = |mode: u64| 0xfee0_0100 | mode << 10;
    let local = &mut locals[0];
    assert_eq!(local.base(), base(0b10));
    assert_eq!(local.set_base(&apics, base(0b01)), Err(GeneralProtection));
    assert_eq!(local.set_base(&apics, base(0b10) + 0x1000), Err(GeneralProtection));
    assert_eq!(local.set_base(&apics, base(0b10) & !0x100), Err(GeneralProtection));
    assert_eq!(local.read_msr(&apics, 0x802, NOW), Err(GeneralProtection));
    assert_eq!(local.set_base(&apics, base(0b11)), Ok(()));
    assert_eq!((local.read_msr(&apics, 0x80f, NOW), local.is_mapped()), (Ok(ENABLE), false));
    assert_eq!(read(local, &apics, 0xf0), 0);
    assert_eq!(local.set_base(&apics, base(0b10)), Err(GeneralProtection));
    assert_eq!(local.set_base(&apics, base(0)), Ok(()));
    assert_eq!(local.set_base(&apics, base(0b11)), Err(GeneralProtection));
    assert_eq!(apics.send(None, Destination::Physical8(0), fixed(0x40)), Rouse::NOBODY);
    assert_eq!(local.set_base(&apics, base(0b10)), Ok(()));
    assert_eq!(read(local, &apics, 0xf0), 0xff);
    assert_eq!(locals[1].base(), 0xfee0_0800);
}

#[test]
fn x2apic_registers_refuse_what_they_have_not() {
    let (apics, mut locals) = vm_x2(18);
    let local = &mut locals[17];
    assert_eq!((local.read_msr(&apics, 0x802, NOW), local.read_msr(&apics, 0x80d, NOW)), (Ok(17), Ok(0x1_0002)));
    for (msr, value) in [(0x802, 0), (0x80b, 1), (0x80d, 0), (0x80e, 0), (0x831, 0), (0x828, 1), (0x830, 1 << 12)] {
        assert_eq!(local.write_msr(&apics, msr, value, NOW), Err(GeneralProtection), "{msr:#x}");
    }
    for msr in [0x7ff, 0x80b, 0x80e, 0x831, 0x83f, 0x840, 0x8ff, 0x900] {
        assert_eq!(local.read_msr(&apics, msr, NOW), Err(GeneralProtection), "{msr:#x}");
    }
    assert_eq!(local.write_msr(&apics, 0x83f, 0x55, NOW).unwrap().rouse, Rouse(1 << 17));
    assert_eq!(taken(local, &apics), Some(0x55));
    assert_eq!(local.write_msr(&apics, 0x80b, 0, NOW), Ok(Outcome::NOTHING));
}

#[test]
fn an_nmi_reaches_even_one_that_is_switched_off_by_software() {
    let (apics, mut locals) = vm(1);
    let _ = write(&mut locals[0], &apics, 0xf0, 0xff);
    let nmi = Message { delivery: Delivery::Nmi, ..fixed(0) };
    assert_eq!(apics.send(None, Destination::Physical8(0), nmi), Rouse(1));
    assert!(locals[0].event_waits(&apics) && locals[0].take_nmi(&apics) && !locals[0].take_nmi(&apics));
}

#[test]
fn impossible_numbers_of_processors_are_refused() {
    assert!(Apics::new(0).is_none() && Apics::new(33).is_none());
    assert_eq!(Apics::new(32).unwrap().count(), 32);
}
