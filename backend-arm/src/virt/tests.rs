//! The machine as a guest uses it: calls, messages, devices.

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::{End, Next};
use services_double::Double;

use super::layout::{self, DEVICES, GICD, GICR, GICR_BYTES, UART, UART_INTID};
use super::{Device, Virt, psci};
use crate::vcpu::mmio::Width;
use crate::vgic::{Group, Lists, TimerLines};

fn vm(vcpus: u16) -> (Virt, Double) {
    (Virt::new(vcpus).unwrap(), Double::new(vcpus))
}

fn firmware((virt, s): &(Virt, Double), call: [u64; 4]) -> (i64, Next) {
    let mut registers = call;
    let next = virt.psci(&mut registers, s);
    assert_eq!(registers[1..], call[1..], "only x0 changes");
    (registers[0] as i64, next)
}

#[test]
fn affinities_name_vcpus_and_nothing_else() {
    for vcpu in 0..64 {
        assert_eq!(layout::number(layout::affinity(vcpu)), Some(vcpu));
        assert_eq!(layout::mpidr(vcpu) & 0xff_ffff, layout::affinity(vcpu));
    }
    assert_eq!((layout::affinity(17), layout::number(16)), (0x101, None));
    for nonsense in [0x8000_0000, 1 << 32, 0x1_0000, u64::MAX] {
        assert_eq!(layout::number(nonsense), None, "{nonsense:#x}");
    }
}

#[test]
fn devices_are_where_the_tree_says_and_nowhere_else() {
    assert_eq!(Device::at(GICD, 2), Some(Device::Distributor(0)));
    assert_eq!(Device::at(Gpa(GICR.0 + GICR_BYTES + 8), 2), Some(Device::Redistributor(1, 8)));
    assert_eq!(Device::at(Gpa(GICR.0 + 2 * GICR_BYTES), 2), None, "no third vCPU");
    assert_eq!(Device::at(Gpa(UART.0 + 0xffc), 2), Some(Device::Uart(0xffc)));
    for nowhere in [DEVICES.0 - 1, GICD.0 + 0x1_0000, UART.0 + 0x1000, u64::MAX] {
        assert_eq!(Device::at(Gpa(nowhere), 2), None, "{nowhere:#x}");
    }
    let last = GICR.0 + GICR_BYTES * u64::from(crate::vgic::MAX_VCPUS);
    assert!(last <= UART.0 && GICR.0 >= GICD.0 + layout::GICD_BYTES);
    let (virt, s) = vm(1);
    assert_eq!((virt.read(0, Gpa(UART.0 + 0x1000), Width::Word, &s)), None);
    assert_eq!((virt.write(0, Gpa(u64::MAX), Width::Byte, 0, &s)), None);
    assert_eq!(virt.read(0, Gpa(GICD.0 + 2), Width::Word, &s), Some(0), "not aligned");
}

#[test]
fn a_processor_is_started_once_where_it_was_asked_to_begin() {
    let vm = vm(18);
    let on = 0xc400_0003;
    assert_eq!(firmware(&vm, [on, 0x101, 0x8_0000, 0x1234_5678_9abc]), (0, Next::Resume));
    let (vcpu, at) = vm.1.starts()[0];
    assert_eq!((vcpu, at.entry, at.args), (17, Gpa(0x8_0000), [0x1234_5678_9abc, 0, 0, 0]));
    assert_eq!(firmware(&vm, [on, 0x101, 0x8_0000, 0]).0, -4, "already on");
    assert_eq!(firmware(&vm, [on, 0x102, 0x8_0000, 0]).0, -2, "no such processor");
    assert_eq!(firmware(&vm, [on, 16, 0x8_0000, 0]).0, -2);
    for address in [0x8_0002, DEVICES.0, u64::MAX - 3] {
        assert_eq!(firmware(&vm, [on, 0x100, address, 0]).0, -9, "{address:#x}");
    }
    // The 32-bit convention does not look at the upper halves.
    assert_eq!(firmware(&vm, [0xdead_0000_8400_0003, 7 << 32 | 1, 9 << 32 | 0x4000, 5 << 32 | 6]).0, 0);
    assert_eq!((vm.1.starts()[1].1.entry, vm.1.starts()[1].1.args[0]), (Gpa(0x4000), 6));
    assert_eq!(firmware(&vm, [0xc400_0004, 0x101, 0, 0]).0, 0, "on");
    assert_eq!(firmware(&vm, [0xc400_0004, 2, 0, 0]).0, 1, "off");
    assert_eq!(firmware(&vm, [0xc400_0004, 18, 0, 0]).0, -2);
    assert_eq!(firmware(&vm, [0xc400_0004, 2, 1, 0]).0, -2, "groups have no state of their own");
}

#[test]
fn calls_that_end_or_suspend_say_so() {
    let vm = vm(2);
    assert_eq!(firmware(&vm, [0x8400_0002, 0, 0, 0]).1, Next::StopSelf);
    assert_eq!(firmware(&vm, [0x8400_0008, 0, 0, 0]).1, Next::End(End::PowerOff));
    assert_eq!(firmware(&vm, [0x8400_0009, 0, 0, 0]).1, Next::End(End::Reboot));
    assert_eq!(firmware(&vm, [0xc400_0001, 0, 0x1000, 0]), (0, Next::Halt), "standby");
    assert_eq!(firmware(&vm, [0xc400_0001, 1 << 16, 0x1000, 0]), (-2, Next::Resume), "no powerdown states");
}

#[test]
fn versions_and_features_are_stated_and_the_rest_is_counted() {
    let vm = vm(1);
    assert_eq!(firmware(&vm, [0x8400_0000, 0, 0, 0]).0, 0x1_0001);
    assert_eq!(firmware(&vm, [0x8000_0000, 0, 0, 0]).0, 0x1_0001);
    assert_eq!(firmware(&vm, [0x8400_0006, 0, 0, 0]).0, 2, "no trusted system");
    for (number, _) in psci::FUNCTIONS {
        let own = if number < 0x8400_0000 { 0x8000_0001 } else { 0x8400_000a };
        assert_eq!(firmware(&vm, [own, number.into(), 0, 0]).0, 0, "{number:#x}");
    }
    assert_eq!(firmware(&vm, [0x8400_000a, 0x8000_0000, 0, 0]).0, 0, "how Linux finds SMCCC 1.1");
    assert_eq!(firmware(&vm, [0x8400_000a, 0x8000_0001, 0, 0]).0, -1, "each asks about calls of its own kind");
    assert_eq!(firmware(&vm, [0x8000_0001, 0x8400_0000, 0, 0]).0, -1);
    assert_eq!(firmware(&vm, [0x8000_0001, 0x8000_8000, 0, 0]).0, -1, "no work-arounds by call");
    assert_eq!(vm.0.unknown_calls(), 0);
    for number in [0x8400_0005, 0xc400_0000, 0x8600_ff01, 0, u64::MAX] {
        assert_eq!(firmware(&vm, [number, 1, 2, 3]), (-1, Next::Resume), "{number:#x}");
    }
    assert_eq!(vm.0.unknown_calls(), 5);
}

#[test]
fn messages_go_to_those_that_are_named() {
    let (virt, s) = vm(20);
    let sent = |vcpu: u16| virt.gic().read_redistributor(vcpu, 0x1_0200, Width::Word);
    let message = |value| {
        s.sleep();
        virt.sgi(0, value, Group::One, &s);
    };
    message(3 << 24 | 0b101);
    assert_eq!(((0..20).map(sent)).collect::<Vec<_>>()[..3], [8, 0, 8]);
    assert!(s.woken(2) && !s.woken(0) && !s.woken(1), "the sender looks by itself");
    message(1 << 16 | 4 << 24 | 0xffff);
    let got: Vec<u16> = (0..20).filter(|vcpu| sent(*vcpu) >> 4 & 1 != 0).collect();
    assert_eq!(got, [16, 17, 18, 19], "level 1 of 1, as far as there are any");
    message(5 << 24 | 1 << 40);
    assert_eq!((0..20).filter(|vcpu| sent(*vcpu) >> 5 & 1 != 0).collect::<Vec<_>>(), (1..20).collect::<Vec<_>>());
    assert!((1..20).all(|vcpu| s.woken(vcpu)) && !s.woken(0));
    // Level 2, level 3, a range of level 0: nobody is there.
    for field in [1 << 32, 1 << 48, 1 << 44, 2 << 16] {
        message(6 << 24 | field | 0xffff);
    }
    assert!((0..20).all(|vcpu| sent(vcpu) >> 6 & 1 == 0 && !s.woken(vcpu)));
}

#[test]
fn messages_of_group_0_reach_only_interrupts_of_group_0() {
    let (virt, s) = vm(2);
    let _ = virt.gic().write_redistributor(1, 1, 0x1_0080, Width::Word, 1 << 2);
    virt.sgi(0, 2 << 24 | 2, Group::Zero, &s);
    assert_eq!(virt.gic().read_redistributor(1, 0x1_0200, Width::Word), 0);
    virt.sgi(0, 3 << 24 | 2, Group::Zero, &s);
    virt.sgi(0, 2 << 24 | 2, Group::One, &s);
    assert_eq!(virt.gic().read_redistributor(1, 0x1_0200, Width::Word), 1 << 3 | 1 << 2);
}

/// The console as Linux's driver uses it, down to the interrupt.
#[test]
fn what_is_typed_interrupts_the_guest_until_it_has_read_it() {
    let (virt, s) = vm(1);
    let write = |base: Gpa, at, value| virt.write(0, Gpa(base.0 + at), Width::Word, value, &s).unwrap();
    let read = |at| virt.read(0, Gpa(UART.0 + at), Width::Half, &s).unwrap();
    for (at, value) in [(0x084, u64::MAX), (0x104, u64::MAX), (0, 2)] {
        write(GICD, at, value);
    }
    write(UART, 0x02c, 0x70);
    write(UART, 0x038, 1 << 4 | 1 << 6);
    let mut lists = Lists::new(4);
    let mut shown = || {
        let _ = virt.gic().fill(0, &mut lists, TimerLines::DOWN);
        lists.lr[0] as u32
    };
    assert_eq!((shown(), read(0x018)), (0, 0x90), "empty both ways");
    s.type_in(b"ls\n");
    assert_eq!((virt.typed(), virt.typed()), (Some(0), None), "its line rises once");
    assert_eq!((shown(), read(0x040)), (UART_INTID, 1 << 6));
    let line: Vec<u8> = std::iter::from_fn(|| (read(0x018) & 0x10 == 0).then(|| read(0x000) as u8)).collect();
    assert_eq!((line, read(0x040), shown()), (b"ls\n".to_vec(), 0, 0));
    write(UART, 0x038, 0x7ff);
    assert_eq!(shown(), 0);
    write(UART, 0x000, u64::from(b'x'));
    assert_eq!((s.printed(), shown(), read(0x03c)), (b"x".to_vec(), UART_INTID, 1 << 5));
    write(UART, 0x044, 1 << 5);
    assert_eq!(shown(), 0, "the transmit interrupt is cleared by hand");
}
