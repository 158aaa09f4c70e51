//! What the interrupt controller does, one property at a time.

use super::dist::{GROUP0, GROUP1};
use super::double::{Ending, Interface};
use super::lists::Lr;
use super::{Level, TimerLines, Underflow, Vgic};
use crate::vcpu::mmio::Width;
use crate::virt::layout::{self, UART_INTID};

const PENDING: u64 = 0x200;
const TIMER: u32 = TimerLines::VIRTUAL_TIMER;

/// A controller as Linux sets it up: group 1, everything enabled, one priority, SPIs to vCPU 0.
fn gic(vcpus: u16) -> Vgic {
    let gic = Vgic::new(vcpus).unwrap();
    for vcpu in 0..vcpus {
        sgi(&gic, vcpu, 0x080, u32::MAX);
        sgi(&gic, vcpu, 0x100, u32::MAX);
        (0..8).for_each(|n| sgi(&gic, vcpu, 0x400 + 4 * n, 0xa0a0_a0a0));
    }
    dist(&gic, 0x084, u32::MAX);
    dist(&gic, 0x104, u32::MAX);
    (8..16).for_each(|n| dist(&gic, 0x400 + 4 * n, 0xa0a0_a0a0));
    dist(&gic, 0, GROUP0 | GROUP1);
    gic
}

fn dist(gic: &Vgic, offset: u64, value: u32) {
    let _ = gic.write_distributor(0, offset, Width::Word, value.into());
}

fn sgi(gic: &Vgic, vcpu: u16, offset: u64, value: u32) {
    let _ = gic.write_redistributor(vcpu, vcpu, 0x1_0000 + offset, Width::Word, value.into());
}

fn state(gic: &Vgic, vcpu: u16, offset: u64) -> u64 {
    gic.read_redistributor(vcpu, 0x1_0000 + offset, Width::Word)
}

fn listed(cpu: &Interface) -> Vec<u32> {
    let mut ids: Vec<u32> = cpu.lists.in_use().map(|(_, lr)| lr.id()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_message_is_taken_once_and_leaves_nothing_behind() {
    let gic = gic(2);
    let mut cpu = Interface::new(1, 4);
    cpu.enter(&gic);
    Interface::new(0, 4).enter(&gic);
    assert!(!gic.wants_look(1));
    gic.send(1, 3);
    assert!(gic.wants_look(1) && !gic.wants_look(0) && gic.pending(1, &cpu.lists, cpu.timers));
    cpu.enter(&gic);
    assert_eq!((cpu.acknowledge(), cpu.acknowledge(), cpu.end()), (Some(3), None, Some(3)));
    cpu.enter(&gic);
    assert_eq!((cpu.lists.used, cpu.acknowledge()), (0, None));
    assert!(!gic.pending(1, &cpu.lists, cpu.timers));
}

#[test]
fn a_message_sent_again_before_it_is_taken_is_one_and_after_that_another() {
    let gic = gic(1);
    let mut cpu = Interface::new(0, 4);
    gic.send(0, 3);
    cpu.enter(&gic);
    gic.send(0, 3);
    cpu.enter(&gic);
    assert_eq!(cpu.acknowledge(), Some(3));
    gic.send(0, 3);
    cpu.enter(&gic);
    let lr = cpu.lists.in_use().next().unwrap().1;
    assert!(lr.is_pending() && lr.is_active());
    assert_eq!((cpu.acknowledge(), cpu.end(), cpu.acknowledge()), (None, Some(3), Some(3)));
    assert_eq!(cpu.end(), Some(3));
    cpu.enter(&gic);
    assert_eq!(cpu.acknowledge(), None, "three sent, two taken: the second met the first");
}

#[test]
fn disabled_interrupts_wait_and_those_that_are_listed_are_withdrawn() {
    let gic = gic(2);
    let mut cpu = Interface::new(1, 4);
    gic.send(1, 5);
    cpu.enter(&gic);
    assert_eq!(listed(&cpu), [5]);
    let wake = gic.write_redistributor(0, 1, 0x1_0180, Width::Word, 1 << 5);
    assert_eq!(wake, 1 << 1, "another vCPU did it");
    cpu.enter(&gic);
    assert_eq!((cpu.lists.used, gic.pending(1, &cpu.lists, cpu.timers)), (0, false));
    assert_eq!(state(&gic, 1, PENDING), 1 << 5, "still pending");
    sgi(&gic, 1, 0x100, 1 << 5);
    cpu.enter(&gic);
    assert_eq!(cpu.acknowledge(), Some(5));
}

#[test]
fn groups_are_forwarded_as_the_distributor_says() {
    let gic = gic(1);
    sgi(&gic, 0, 0x080, !1);
    dist(&gic, 0, GROUP1);
    let mut cpu = Interface::new(0, 4);
    gic.send(0, 0);
    gic.send(0, 1);
    cpu.enter(&gic);
    assert_eq!(listed(&cpu), [1]);
    dist(&gic, 0, GROUP0);
    cpu.enter(&gic);
    assert_eq!(listed(&cpu), [0]);
    assert_eq!(cpu.lists.in_use().next().unwrap().1.0 >> 60 & 1, 0, "shown as of group 0");
    dist(&gic, 0, 0);
    cpu.enter(&gic);
    assert_eq!(listed(&cpu), []);
}

#[test]
fn a_device_interrupt_comes_back_as_long_as_its_line_is_up() {
    let gic = gic(2);
    let mut cpu = Interface::new(0, 4);
    assert_eq!(gic.set_line(UART_INTID, Level::High), Some(0));
    for _ in 0..3 {
        cpu.enter(&gic);
        assert_eq!((cpu.acknowledge(), cpu.end()), (Some(UART_INTID), Some(UART_INTID)));
        assert!(cpu.maintenance(), "its end brings an exit");
    }
    assert_eq!(gic.set_line(UART_INTID, Level::Low), None);
    cpu.enter(&gic);
    assert_eq!(cpu.lists.used, 0);
}

#[test]
fn a_device_interrupt_that_nobody_took_goes_when_its_line_falls() {
    let gic = gic(1);
    let mut cpu = Interface::new(0, 4);
    gic.set_line(UART_INTID, Level::High);
    cpu.enter(&gic);
    assert_eq!(listed(&cpu), [UART_INTID]);
    gic.set_line(UART_INTID, Level::Low);
    assert!(gic.wants_look(0));
    cpu.enter(&gic);
    assert_eq!((cpu.lists.used, gic.pending(0, &cpu.lists, cpu.timers)), (0, false));
}

#[test]
fn an_edge_latches_by_rising_only() {
    let gic = gic(1);
    let mut cpu = Interface::new(0, 4);
    dist(&gic, 0xc08, 2 << (2 * (UART_INTID - 32)));
    gic.set_line(UART_INTID, Level::High);
    gic.set_line(UART_INTID, Level::Low);
    cpu.enter(&gic);
    assert_eq!(cpu.acknowledge(), Some(UART_INTID));
    gic.set_line(UART_INTID, Level::High);
    cpu.enter(&gic);
    assert_eq!((cpu.end(), cpu.acknowledge(), cpu.end()), (Some(UART_INTID), Some(UART_INTID), Some(UART_INTID)));
    cpu.enter(&gic);
    assert_eq!(cpu.lists.used, 0, "the line is still up, but has not risen again");
}

#[test]
fn an_spi_moves_with_its_route_and_is_held_by_one_vcpu_at_a_time() {
    let gic = gic(2);
    let (mut zero, mut one) = (Interface::new(0, 4), Interface::new(1, 4));
    gic.set_line(UART_INTID, Level::High);
    zero.enter(&gic);
    assert_eq!(listed(&zero), [UART_INTID]);
    let route = 0x6000 + 8 * u64::from(UART_INTID);
    let wake = gic.write_distributor(1, route, Width::Double, layout::affinity(1));
    assert_ne!(wake & 1, 0, "who lists it has to give it up");
    one.enter(&gic);
    assert_eq!(one.lists.used, 0, "not while vCPU 0 lists it");
    assert_ne!(zero.enter(&gic) & 2, 0, "now vCPU 1 is told");
    one.enter(&gic);
    assert_eq!((listed(&zero), listed(&one)), (vec![], vec![UART_INTID]));
    assert_eq!(one.acknowledge(), Some(UART_INTID));
    let _ = gic.write_distributor(0, route, Width::Double, 0);
    one.enter(&gic);
    zero.enter(&gic);
    assert_eq!((zero.lists.used, one.end()), (0, Some(UART_INTID)), "active ones stay where they are");
    assert_ne!(one.enter(&gic) & 1, 0);
    zero.enter(&gic);
    assert_eq!(listed(&zero), [UART_INTID]);
}

#[test]
fn the_timer_is_ended_by_the_guest_in_the_hosts_controller_too() {
    let gic = gic(1);
    let mut cpu = Interface::new(0, 4);
    cpu.timers = TimerLines(1 << TIMER);
    cpu.enter(&gic);
    let lr = cpu.lists.in_use().next().unwrap().1;
    assert!(lr.is_physical() && lr.id() == TIMER && cpu.host == 1 << TIMER);
    assert_eq!(cpu.acknowledge(), Some(TIMER));
    cpu.timers = TimerLines::DOWN;
    cpu.enter(&gic);
    assert_eq!((cpu.end(), cpu.host), (Some(TIMER), 0));
    cpu.enter(&gic);
    assert_eq!((cpu.lists.used, cpu.lists.physical), (0, 0));
}

#[test]
fn a_timer_whose_line_falls_before_it_is_taken_frees_the_hosts_interrupt() {
    let gic = gic(1);
    let mut cpu = Interface::new(0, 4);
    cpu.timers = TimerLines(1 << TIMER);
    cpu.enter(&gic);
    cpu.timers = TimerLines::DOWN;
    cpu.enter(&gic);
    assert_eq!((cpu.lists.used, cpu.host), (0, 0));
}

#[test]
fn a_disabled_timer_stays_active_in_the_hosts_controller_and_is_no_storm() {
    let gic = gic(1);
    sgi(&gic, 0, 0x180, 1 << TIMER);
    let mut cpu = Interface::new(0, 4);
    cpu.timers = TimerLines(1 << TIMER);
    cpu.enter(&gic);
    assert_eq!((cpu.lists.used, cpu.host), (0, 1 << TIMER));
    assert!(!gic.pending(0, &cpu.lists, cpu.timers));
    cpu.withdraw(&gic);
    assert_ne!(state(&gic, 0, PENDING) >> TIMER & 1, 0, "its line is up");
    sgi(&gic, 0, 0x100, 1 << TIMER);
    assert!(gic.pending(0, &cpu.lists, cpu.timers));
    cpu.enter(&gic);
    assert_eq!(cpu.acknowledge(), Some(TIMER));
}

#[test]
fn the_guest_may_set_and_clear_by_hand_what_it_likes() {
    let gic = gic(1);
    let mut cpu = Interface::new(0, 4);
    sgi(&gic, 0, 0x200, 1 << 7 | 1 << TIMER);
    cpu.enter(&gic);
    assert_eq!(listed(&cpu), [7, TIMER]);
    assert_eq!(cpu.host, 0, "a pending state set by hand is no physical interrupt");
    cpu.withdraw(&gic);
    assert_eq!(state(&gic, 0, PENDING), 1 << 7 | 1 << TIMER);
    sgi(&gic, 0, 0x280, 1 << TIMER);
    cpu.enter(&gic);
    assert_eq!(cpu.acknowledge(), Some(7));
    cpu.withdraw(&gic);
    assert_eq!((state(&gic, 0, 0x300), state(&gic, 0, PENDING)), (1 << 7, 0));
    sgi(&gic, 0, 0x380, 1 << 7);
    cpu.enter(&gic);
    assert_eq!(cpu.lists.used, 0, "deactivated through the register");
}

#[test]
fn another_vcpu_clears_what_is_listed() {
    let gic = gic(2);
    let mut cpu = Interface::new(1, 4);
    gic.send(1, 2);
    gic.send(1, 9);
    cpu.enter(&gic);
    assert_eq!(cpu.acknowledge(), Some(2));
    assert_eq!(gic.write_redistributor(0, 1, 0x1_0280, Width::Word, 1 << 9), 2);
    assert_eq!(gic.write_redistributor(0, 1, 0x1_0380, Width::Word, 1 << 2), 2);
    cpu.enter(&gic);
    assert_eq!(cpu.lists.used, 0);
    assert_eq!((state(&gic, 1, PENDING), state(&gic, 1, 0x300)), (0, 0));
}

#[test]
fn what_others_list_is_seen_as_of_their_last_look() {
    let gic = gic(2);
    let mut cpu = Interface::new(1, 4);
    gic.send(1, 2);
    cpu.enter(&gic);
    assert_eq!(state(&gic, 1, PENDING), 1 << 2);
    assert_eq!(cpu.acknowledge(), Some(2));
    gic.fold(1, &mut cpu.lists);
    assert_eq!((state(&gic, 1, PENDING), state(&gic, 1, 0x300)), (0, 1 << 2));
}

/// IHI 0069, chapter 4.8: what does not fit follows, the highest priority first, and none is lost.
#[test]
fn more_than_fits_follows_in_the_order_of_priorities() {
    let gic = gic(1);
    for id in 0..16_u64 {
        let _ = gic.write_redistributor(0, 0, 0x1_0400 + id, Width::Byte, 0xf0 - 8 * id);
    }
    let mut cpu = Interface::new(0, 4);
    (0..16).for_each(|id| gic.send(0, id));
    cpu.enter(&gic);
    assert_eq!((listed(&cpu), cpu.underflow), (vec![12, 13, 14, 15], Underflow::NO_PENDING));
    let mut taken = Vec::new();
    for _ in 0..64 {
        if let Some(id) = cpu.acknowledge() {
            taken.push(id);
            cpu.end();
        }
        if cpu.maintenance() {
            cpu.enter(&gic);
        }
    }
    assert_eq!(taken, (0..16).rev().collect::<Vec<_>>());
    cpu.enter(&gic);
    assert_eq!((cpu.underflow, cpu.lists.used), (Underflow::NONE, 0));
}

#[test]
fn a_higher_priority_takes_the_place_of_a_lower_one() {
    let gic = gic(1);
    let _ = gic.write_redistributor(0, 0, 0x1_0400 + 9, Width::Byte, 0x20);
    let mut cpu = Interface::new(0, 4);
    (0..4).for_each(|id| gic.send(0, id));
    cpu.enter(&gic);
    gic.send(0, 9);
    cpu.enter(&gic);
    assert_eq!((cpu.acknowledge(), cpu.end()), (Some(9), Some(9)));
}

/// Eight nested interrupts over two list registers: those that were parked are ended all the same.
#[test]
fn more_active_ones_than_registers_are_ended_one_by_one() {
    for ending in [Ending::Together, Ending::Apart] {
        let gic = gic(1);
        for id in 0..8_u64 {
            let _ = gic.write_redistributor(0, 0, 0x1_0400 + id, Width::Byte, 0x80 - 8 * id);
        }
        let mut cpu = Interface::new(0, 2);
        cpu.ending = ending;
        for id in 0..8 {
            gic.send(0, id);
            cpu.enter(&gic);
            assert_eq!(cpu.acknowledge(), Some(id));
        }
        cpu.withdraw(&gic);
        assert_eq!(state(&gic, 0, 0x300), 0xff);
        cpu.enter(&gic);
        assert_eq!(cpu.underflow, Underflow::NOT_LISTED);
        for n in 0..8 {
            match ending {
                Ending::Together => cpu.end(),
                Ending::Apart => cpu.end_any(&gic, 3 * n),
            };
            if cpu.maintenance() {
                cpu.enter(&gic);
            }
        }
        cpu.enter(&gic);
        cpu.withdraw(&gic);
        assert_eq!((state(&gic, 0, 0x300), cpu.underflow), (0, Underflow::NONE), "{ending:?}");
    }
}

#[test]
fn a_set_of_registers_remembers_what_hardware_has_to_be_told() {
    let gic = gic(1);
    let mut cpu = Interface::new(0, 4);
    gic.send(0, 1);
    gic.fold(0, &mut cpu.lists);
    let _ = gic.fill(0, &mut cpu.lists, TimerLines::DOWN);
    assert_eq!((cpu.lists.used, cpu.lists.changed), (1, 1));
    assert_eq!(cpu.lists.lr[0], 1 | 0xa0 << 48 | 1 << 60 | Lr::PENDING);
    cpu.lists.changed = 0;
    let _ = gic.fill(0, &mut cpu.lists, TimerLines::DOWN);
    assert_eq!(cpu.lists.changed, 0, "nothing new, nothing to write");
}

#[test]
fn a_fold_says_when_a_fill_has_to_follow() {
    let gic = gic(1);
    let mut cpu = Interface::new(0, 4);
    sgi(&gic, 0, 0x200, 1 << TIMER);
    cpu.enter(&gic);
    assert_eq!((cpu.acknowledge(), cpu.end()), (Some(TIMER), Some(TIMER)), "pending by hand, with its line down");
    gic.fold(0, &mut cpu.lists);
    assert!(gic.wants_look(0), "the line may have risen meanwhile");
    cpu.enter(&gic);
    assert!(!gic.wants_look(0));
    (0..5).for_each(|id| gic.send(0, id));
    cpu.enter(&gic);
    gic.fold(0, &mut cpu.lists);
    assert!(gic.wants_look(0), "one waits for room");
}

#[test]
fn clearing_what_is_not_there_takes_nothing_from_what_comes_later() {
    // GICR_ICPENDR0, GICR_ICACTIVER0.
    for register in [0x280, 0x380] {
        let gic = gic(1);
        let mut cpu = Interface::new(0, 4);
        cpu.withdraw(&gic);
        sgi(&gic, 0, register, u32::MAX);
        cpu.enter(&gic);
        gic.send(0, 1);
        cpu.enter(&gic);
        let taken = (register == 0x380).then(|| cpu.acknowledge());
        gic.send(0, 2);
        cpu.enter(&gic);
        assert_eq!(listed(&cpu), [1, 2], "{register:#x} {taken:?}");
    }
}

#[test]
fn a_level_that_is_over_is_not_dropped_as_a_message_is() {
    let gic = gic(1);
    let mut cpu = Interface::new(0, 4);
    sgi(&gic, 0, 0x200, 1 << TIMER);
    cpu.enter(&gic);
    assert_eq!((cpu.acknowledge(), cpu.end(), cpu.lists.used), (Some(TIMER), Some(TIMER), 1));
    cpu.timers = TimerLines(1 << TIMER);
    gic.fold(0, &mut cpu.lists);
    assert!(gic.wants_look(0) && gic.pending(0, &cpu.lists, cpu.timers));
    cpu.enter(&gic);
    assert_eq!(cpu.acknowledge(), Some(TIMER));
}
