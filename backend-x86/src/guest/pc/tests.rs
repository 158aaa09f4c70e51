use hv_core::addr::Gpa;
use hv_core::machine::Instant;
use hv_core::vcpu::exit::{End, Next};
use hv_core::vcpu::services::Services as _;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::strategy::Just;
use proptest::{prop_assert, prop_assert_eq, proptest};
use services_double::Double;

use super::{Answer, Pc};
use crate::apic::{Clock, Event, Local};
use crate::bus::{GeneralProtection, Width};

const VCPUS: u16 = 2;
const LAPIC: u64 = 0xfee0_0000;
const IO_APIC: u64 = 0xfec0_0000;

struct Vm {
    pc: Pc,
    locals: Vec<Local>,
    s: Double,
}

impl Vm {
    fn new() -> Self {
        let mut vm = Self {
            pc: Pc::new(VCPUS).unwrap(),
            locals: (0..VCPUS).map(|n| Local::new(n, 512_000_000)).collect(),
            s: Double::new(VCPUS),
        };
        for vcpu in 0..VCPUS {
            vm.store(vcpu, LAPIC + 0xf0, 0x1ff);
        }
        vm
    }

    fn store(&mut self, vcpu: u16, at: u64, value: u64) {
        self.pc.write(&mut self.locals[usize::from(vcpu)], Gpa(at), Width::Double, value, &self.s);
    }

    fn load(&mut self, vcpu: u16, at: u64) -> u64 {
        self.pc.read(&mut self.locals[usize::from(vcpu)], Gpa(at), Width::Double, &self.s)
    }

    fn redirect(&mut self, pin: u64, low: u64, to: u64) {
        for (register, value) in [(0x11 + 2 * pin, to << 24), (0x10 + 2 * pin, low)] {
            self.store(0, IO_APIC, register);
            self.store(0, IO_APIC + 0x10, value);
        }
    }

    fn out(&self, port: u16, value: u8) -> Next {
        self.pc.output(0, port, Width::Byte, value.into(), &self.s)
    }

    fn taken(&mut self, vcpu: u16) -> Option<u8> {
        let local = &mut self.locals[usize::from(vcpu)];
        assert_ne!(local.look(self.pc.apics()), Some(Event::Restart));
        local.acknowledge(self.pc.apics())
    }
}

#[test]
fn the_acpi_timer_counts_24_bits_at_its_rate_and_is_read_whole() {
    let vm = Vm::new();
    let second = vm.s.ticks_per_second();
    let read = |port, width| vm.pc.input(0, port, width, &vm.s);
    vm.s.set_now(second);
    assert_eq!(read(0x608, Width::Double), 3_579_545);
    assert_eq!((read(0x609, Width::Byte), read(0x60a, Width::Word)), (3_579_545 >> 8 & 0xff, 3_579_545 >> 16));
    vm.s.set_now(5 * second);
    assert_eq!(read(0x608, Width::Double), 5 * 3_579_545 - 0x100_0000);
    assert_eq!(read(0x60c, Width::Byte), 0xff);
}

#[test]
fn what_is_typed_interrupts_the_vcpu_that_asked_for_it() {
    let mut vm = Vm::new();
    vm.redirect(4, 0x24, 1);
    for (port, value) in [(0x3fc, 0x0b), (0x3fa, 0x07), (0x3f9, 0x01)] {
        assert_eq!(vm.out(port, value), Next::Resume);
    }
    vm.s.type_in(b"ls");
    vm.pc.typed().carry_out(None, vm.pc.apics(), &vm.s);
    assert!(vm.s.woken(1) && !vm.s.woken(0));
    assert_eq!((vm.taken(0), vm.taken(1)), (None, Some(0x24)));
    let read = |vm: &Vm, port| vm.pc.input(1, port, Width::Byte, &vm.s);
    assert_eq!((read(&vm, 0x3fd), read(&vm, 0x3f8), read(&vm, 0x3f8)), (0x61, b'l'.into(), b's'.into()));
    vm.store(1, LAPIC + 0xb0, 0);
    assert_eq!((vm.taken(1), read(&vm, 0x3fa)), (None, 0xc1));
    // The line has fallen, so the next one is another edge.
    vm.s.type_in(b"!");
    vm.pc.typed().carry_out(None, vm.pc.apics(), &vm.s);
    assert_eq!(vm.taken(1), Some(0x24));
}

#[test]
fn a_level_comes_again_through_the_end_of_its_interrupt_by_either_face() {
    let mut vm = Vm::new();
    vm.redirect(4, 0x8055, 0);
    let _ = vm.out(0x3fc, 0x08);
    let _ = vm.out(0x3f9, 0x02);
    assert_eq!((vm.taken(0), vm.taken(0)), (Some(0x55), None));
    vm.store(0, LAPIC + 0xb0, 0);
    assert_eq!(vm.taken(0), Some(0x55));
    vm.locals[0].set_base(vm.pc.apics(), 0xfee0_0d00).unwrap();
    let clock = Clock { now: Instant(0), offset: 0 };
    vm.pc.write_msr(&mut vm.locals[0], 0x80b, 0, clock, &vm.s).unwrap();
    assert_eq!((vm.taken(0), vm.load(0, LAPIC + 0x20)), (Some(0x55), 0xffff_ffff), "not in memory any more");
}

#[test]
fn guests_switch_off_and_reboot() {
    let vm = Vm::new();
    assert_eq!((vm.out(0x600, 5 << 2), vm.out(0x600, 1 << 5 | 3 << 2)), (Next::Resume, Next::Resume));
    assert_eq!(vm.out(0x600, 1 << 5 | 5 << 2), Next::End(End::PowerOff));
    assert_eq!((vm.out(0x602, 0), vm.out(0x602, 1)), (Next::Resume, Next::End(End::Reboot)));
    assert_eq!(vm.pc.input(0, 0x601, Width::Byte, &vm.s), 0);
}

#[test]
fn where_nothing_is_reads_give_ones() {
    let mut vm = Vm::new();
    let input = |port, width| vm.pc.input(0, port, width, &vm.s);
    // PIC, keyboard, PCI: systems see by this that there is none.
    assert_eq!(
        (input(0x21, Width::Byte), input(0x64, Width::Byte), input(0xcfc, Width::Double)),
        (0xff, 0xff, u32::MAX)
    );
    let _ = vm.out(0x3ff, 0x77);
    // Two bytes, of which the second is nobody's.
    assert_eq!((input(0x3ff, Width::Word), input(0xffff, Width::Word)), (0xff77, 0xffff));
    let unknown = vm.pc.unknown_calls();
    assert_eq!((vm.load(0, 0xd000_0000), vm.pc.unknown_calls()), (0xffff_ffff, unknown + 1));
}

#[test]
fn the_date_can_be_read() {
    let vm = Vm::new();
    vm.s.set_wall_clock(1_795_283_998);
    // In one access: the index, and a byte for the register, which is lost.
    assert_eq!(vm.pc.output(0, 0x70, Width::Word, 0x5509, &vm.s), Next::Resume);
    assert_eq!(vm.pc.input(0, 0x71, Width::Byte, &vm.s), 0x26);
}

#[test]
fn text_goes_out() {
    let vm = Vm::new();
    b"hi\n".iter().for_each(|byte| assert_eq!(vm.out(0x3f8, *byte), Next::Resume));
    assert_eq!(vm.s.printed(), b"hi\n");
}

#[test]
fn registers_are_answered_by_their_owners() {
    let mut vm = Vm::new();
    let clock = Clock { now: Instant(1000), offset: 500 };
    let mut write = |msr, value| vm.pc.write_msr(&mut vm.locals[0], msr, value, clock, &vm.s);
    assert_eq!((write(0x6e0, 9), write(0x10, 0)), (Ok(Answer::Here(())), Ok(Answer::Clock)));
    assert_eq!((write(0xc000_0102, 1), write(0x2ff, 0)), (Ok(Answer::Switched), Ok(Answer::Here(()))));
    assert_eq!((write(0xfe, 0), write(0x48, 0)), (Err(GeneralProtection), Err(GeneralProtection)));
    assert_eq!(
        (write(0x4b56_4d01, 0x4001), write(0x4b56_4d00, 0xffff_0000)),
        (Ok(Answer::Here(())), Err(GeneralProtection))
    );
    assert_eq!(vm.s.peek::<2>(0x4008), 500_u16.to_le_bytes(), "its counter is ahead by so much");
    vm.s.set_short(true);
    assert_eq!(vm.pc.write_msr(&mut vm.locals[0], 0x4b56_4d01, 0x4001, clock, &vm.s), Ok(Answer::Again));
    let read = |msr| vm.pc.read_msr(&vm.locals[0], msr, Instant(0));
    assert_eq!((read(0x1b), read(0x2ff)), (Ok(Answer::Here(0xfee0_0900)), Ok(Answer::Here(0x806))));
    assert_eq!(
        (read(0x3a), read(0x48), read(0x802)),
        (Ok(Answer::Here(1)), Err(GeneralProtection), Err(GeneralProtection))
    );
    assert!(vm.pc.is_news(0x48) && !vm.pc.is_news(0x48));
}

#[test]
fn the_counters_rate_can_be_measured() {
    let vm = Vm::new();
    // Channel 2, mode 0, 11932 counts: 10 ms.
    for (port, value) in [(0x61, 1), (0x43, 0xb0), (0x42, 0x9c), (0x42, 0x2e)] {
        assert_eq!(vm.out(port, value), Next::Resume);
    }
    let over = |now| {
        vm.s.set_now(now);
        vm.pc.input(0, 0x61, Width::Byte, &vm.s) & 0x20 != 0
    };
    assert_eq!((over(5_119_000), over(5_121_000)), (false, true));
}

/// One thing a guest does.
#[derive(Clone, Debug)]
enum Act {
    Load(u16, u64, Width),
    Store(u16, u64, Width, u64),
    In(u16, u16, Width),
    Out(u16, u16, Width, u32),
    Rdmsr(u16, u32),
    Wrmsr(u16, u32, u64),
    Type(u8),
    Pass(u64),
    Run(u16),
}

fn act() -> impl Strategy<Value = Act> {
    let width = || proptest::sample::select(&[Width::Byte, Width::Word, Width::Double, Width::Double, Width::Quad][..]);
    let vcpu = || 0..VCPUS;
    let address = || {
        prop_oneof![
            (0..0x40_u64).prop_map(|n| LAPIC + 16 * n),
            (0..3_u64).prop_map(|n| IO_APIC + 16 * n),
            0xfebf_fff0..0xfee0_2000_u64,
            any::<u64>()
        ]
    };
    let port = || prop_oneof![0x3f8..0x400_u16, 0x40..0x62_u16, 0x600..0x604_u16, any::<u16>()];
    let msr = || {
        prop_oneof![0x800..0x840_u32, Just(0x1b), Just(0x6e0), Just(0x10), 0xc000_0080..0xc000_0104_u32, any::<u32>()]
    };
    let value =
        || prop_oneof![0..0x100_u64, (0..64_u32).prop_map(|n| 1 << n), any::<u64>(), Just(0xfee0_0d00), Just(0x1ff)];
    prop_oneof![
        (vcpu(), address(), width()).prop_map(|(v, a, w)| Act::Load(v, a, w)),
        (vcpu(), address(), width(), value()).prop_map(|(v, a, w, x)| Act::Store(v, a, w, x)),
        (vcpu(), port(), width()).prop_map(|(v, p, w)| Act::In(v, p, w)),
        (vcpu(), port(), width(), any::<u32>()).prop_map(|(v, p, w, x)| Act::Out(v, p, w, x)),
        (vcpu(), msr()).prop_map(|(v, m)| Act::Rdmsr(v, m)),
        (vcpu(), msr(), value()).prop_map(|(v, m, x)| Act::Wrmsr(v, m, x)),
        any::<u8>().prop_map(Act::Type),
        prop_oneof![0..10_000_u64, any::<u64>()].prop_map(Act::Pass),
        vcpu().prop_map(Act::Run),
    ]
}

proptest! {
    /// R26: whatever guests do to their machine, nothing panics, no lock stays taken, and values have the width asked for.
    #[test]
    fn r26_no_guest_can_break_its_machine(acts in vec(act(), 1..150)) {
        let Vm { pc, mut locals, s } = Vm::new();
        let mut clock = Clock { now: Instant(0), offset: 77 };
        for act in acts {
            match act {
                Act::Load(v, at, width) => {
                    let value = pc.read(&mut locals[usize::from(v)], Gpa(at), width, &s);
                    prop_assert_eq!(value & !width.mask(), 0);
                }
                Act::Store(v, at, width, value) => pc.write(&mut locals[usize::from(v)], Gpa(at), width, value, &s),
                Act::In(v, port, width) => {
                    let value = pc.input(v, port, width, &s);
                    prop_assert_eq!(u64::from(value) & !width.mask(), 0);
                }
                Act::Out(v, port, width, value) => {
                    let next = pc.output(v, port, width, value, &s);
                    prop_assert!(next == Next::Resume || (0x5fd..=0x602).contains(&port));
                }
                Act::Rdmsr(v, msr) => _ = pc.read_msr(&locals[usize::from(v)], msr, clock.now),
                Act::Wrmsr(v, msr, value) => _ = pc.write_msr(&mut locals[usize::from(v)], msr, value, clock, &s),
                Act::Type(byte) => {
                    s.type_in(&[byte]);
                    pc.typed().carry_out(None, pc.apics(), &s);
                }
                Act::Pass(ticks) => {
                    clock.now = clock.now.after(ticks);
                    s.set_now(clock.now.0);
                }
                Act::Run(v) => {
                    let local = &mut locals[usize::from(v)];
                    local.tick(pc.apics(), clock.now);
                    let _ = local.look(pc.apics());
                    if let Some(vector) = local.acknowledge(pc.apics()) {
                        prop_assert!(vector >= 16);
                    }
                }
            }
        }
    }
}
