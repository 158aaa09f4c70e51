//! Hostile guests: any register, any value, any width, on any vCPU, between messages, lines, timers and interrupts that are
//! taken and ended. Nothing panics; each interrupt that was pending is taken, and only those (R26).
//!
//! A model keeps one bit for each interrupt: whether it is latched. Taking one that is neither latched nor held up by its
//! line is one taken twice; one that is latched in the end, with everything let through, and not taken is lost.

extern crate std;

use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof};
use proptest::proptest;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;

use super::double::{Ending, Interface};
use super::{END, FIRST_SPI, Level, TimerLines, Vgic, wake};
use crate::vcpu::mmio::Width;
use crate::virt::layout;
use services_double::Double;

const VCPUS: u16 = 3;
const WIDTHS: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Double];

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Act {
    Send { to: u16, id: u32 },
    Line { id: u32, up: bool },
    Timer { vcpu: u16, lines: u32 },
    Distributor { by: u16, offset: u64, width: Width, value: u64 },
    Redistributor { by: u16, of: u16, offset: u64, width: Width, value: u64 },
    Enter(u16),
    Take(u16),
    End(u16, usize),
    Halt(u16),
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), (0..64_u32).prop_map(|n| 1 << n), select(&[0, u64::MAX, 0xffff_ffff, 0x0101_0101][..])]
}

/// Registers that are there, more often than others.
fn offset(word: u64) -> impl Strategy<Value = u64> {
    let banks = select(&[0x080_u64, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380][..]).prop_map(move |bank| bank + word);
    let priorities = (0..END).prop_map(|id| 0x400 + u64::from(id));
    prop_oneof![
        6 => banks,
        1 => priorities,
        1 => (0..4_u64).prop_map(|n| 0xc00 + 4 * n),
        1 => (0..16_u64).prop_map(|n| 0x6100 + 4 * n),
        1 => 0..0x1_0000_u64,
        1 => proptest::strategy::Just(0),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let width = || prop_oneof![4 => proptest::strategy::Just(Width::Word), 1 => select(&WIDTHS[..])];
    prop_oneof![
        4 => (0..VCPUS, 0..16_u32).prop_map(|(to, id)| Act::Send { to, id }),
        2 => (FIRST_SPI..FIRST_SPI + 3, any::<bool>()).prop_map(|(id, up)| Act::Line { id, up }),
        1 => (0..VCPUS, any::<u32>()).prop_map(|(vcpu, lines)| Act::Timer { vcpu, lines }),
        2 => (0..VCPUS, offset(4), width(), value())
            .prop_map(|(by, offset, width, value)| Act::Distributor { by, offset, width, value }),
        2 => (0..VCPUS, 0..VCPUS + 1, offset(0), any::<bool>(), width(), value()).prop_map(
            |(by, of, offset, own, width, value)| {
                let offset = if own { offset } else { offset + 0x1_0000 };
                Act::Redistributor { by, of, offset, width, value }
            }
        ),
        2 => (0..VCPUS).prop_map(Act::Enter),
        6 => (0..VCPUS).prop_map(Act::Take),
        5 => (0..VCPUS, any::<usize>()).prop_map(|(vcpu, n)| Act::End(vcpu, n)),
        1 => (0..VCPUS).prop_map(Act::Halt),
        // To one of the vCPUs, or to none.
        2 => (0..VCPUS, 0..3_u64, 0..VCPUS + 1).prop_map(|(by, n, to)| Act::Distributor {
            by,
            offset: 0x6100 + 8 * n,
            width: Width::Double,
            value: layout::affinity(to),
        }),
    ]
}

/// The machine and what must be true of it.
struct World {
    gic: Vgic,
    cpus: Vec<Interface>,
    /// Latched: SGIs and PPIs by vCPU.
    private: Vec<u32>,
    spis: u32,
    lines: u32,
    edges: u32,
    s: Double,
}

impl World {
    fn new(limit: u8, ending: Ending) -> Self {
        let gic = Vgic::new(VCPUS).unwrap();
        let cpus = (0..VCPUS).map(|vcpu| Interface { ending, ..Interface::new(vcpu, limit) }).collect();
        let world =
            Self { gic, cpus, private: vec![0; VCPUS.into()], spis: 0, lines: 0, edges: 0, s: Double::new(VCPUS) };
        world.let_through();
        world
    }

    /// Everything is enabled, forwarded, and goes to vCPU 0.
    fn let_through(&self) {
        let dist = |offset, width, value| {
            let _ = self.gic.write_distributor(0, offset, width, value);
        };
        for vcpu in 0..VCPUS {
            for offset in [0x1_0080, 0x1_0100] {
                let _ = self.gic.write_redistributor(vcpu, vcpu, offset, Width::Word, u64::MAX);
            }
        }
        dist(0x084, Width::Word, u64::MAX);
        dist(0x104, Width::Word, u64::MAX);
        (0..32).for_each(|n| dist(0x6100 + 8 * n, Width::Double, layout::affinity(0)));
        dist(0, Width::Word, 3);
    }

    /// A vCPU goes into its guest; those that this concerns come out of theirs and look.
    fn enter(&mut self, vcpu: u16) {
        let wake_up = self.cpus[usize::from(vcpu)].enter(&self.gic);
        wake(wake_up, &self.s);
        self.kicked();
    }

    /// Those that have been woken look.
    fn kicked(&mut self) {
        for _ in 0..VCPUS {
            let woken: Vec<u16> = (0..VCPUS).filter(|vcpu| self.s.woken(*vcpu)).collect();
            self.s.sleep();
            for vcpu in woken {
                let wake_up = self.cpus[usize::from(vcpu)].enter(&self.gic);
                wake(wake_up, &self.s);
            }
        }
    }

    /// What hardware and the vCPU's runner do before the guest's next instruction.
    fn before(&mut self, vcpu: u16) {
        if self.gic.wants_look(vcpu) || self.cpus[usize::from(vcpu)].maintenance() {
            self.enter(vcpu);
        }
    }

    fn withdraw(&mut self, vcpu: u16) {
        let wake_up = self.cpus[usize::from(vcpu)].withdraw(&self.gic);
        wake(wake_up, &self.s);
        self.kicked();
    }

    fn take(&mut self, vcpu: u16) -> Result<bool, TestCaseError> {
        self.before(vcpu);
        let Some(id) = self.cpus[usize::from(vcpu)].acknowledge() else { return Ok(false) };
        let timers = self.cpus[usize::from(vcpu)].timers.0 & TimerLines::PHYSICAL;
        let (latches, lines, n) = match id.checked_sub(FIRST_SPI) {
            Some(n) => (&mut self.spis, self.lines & !self.edges, n),
            None => (&mut self.private[usize::from(vcpu)], timers, id),
        };
        prop_assert!((*latches | lines) >> n & 1 != 0, "vCPU {vcpu} took {id} for no reason");
        *latches &= !(1 << n);
        Ok(true)
    }

    fn distributor(&mut self, by: u16, offset: u64, width: Width, value: u64) {
        self.withdraw(by);
        let wake_up = self.gic.write_distributor(by, offset, width, value);
        let _ = self.gic.read_distributor(offset, width);
        if width == Width::Word {
            let word = value as u32;
            match offset {
                0x204 => self.spis |= word,
                0x284 => self.spis &= !word,
                0x384 => self.forget(0..VCPUS, |id| id >= FIRST_SPI && word >> (id - FIRST_SPI) & 1 != 0),
                0xc08 | 0xc0c => {
                    let shift = if offset == 0xc08 { 0 } else { 16 };
                    let edges = (0..16).fold(0, |mask, n| mask | (word >> (2 * n + 1) & 1) << n);
                    self.edges = self.edges & !(0xffff << shift) | edges << shift;
                }
                _ => {}
            }
        }
        wake(wake_up, &self.s);
        self.kicked();
    }

    fn redistributor(&mut self, by: u16, of: u16, offset: u64, width: Width, value: u64) {
        self.withdraw(by);
        let wake_up = self.gic.write_redistributor(by, of, offset, width, value);
        let _ = self.gic.read_redistributor(of, offset, width);
        if width == Width::Word && of < VCPUS {
            let (word, latches) = (value as u32, &mut self.private[usize::from(of)]);
            match offset {
                0x1_0200 => *latches |= word,
                0x1_0280 => *latches &= !word,
                0x1_0380 => self.forget(of..of + 1, |id| id < FIRST_SPI && word >> id & 1 != 0),
                _ => {}
            }
        }
        wake(wake_up, &self.s);
        self.kicked();
    }

    /// A guest that ends an interrupt through the distributor does not end it once more.
    fn forget(&mut self, vcpus: core::ops::Range<u16>, which: impl Fn(u32) -> bool) {
        for vcpu in vcpus {
            self.cpus[usize::from(vcpu)].active.retain(|(id, _)| !which(*id));
        }
    }

    fn line(&mut self, id: u32, up: bool) {
        let bit = 1 << (id - FIRST_SPI);
        if up {
            self.spis |= bit & self.edges & !self.lines;
            self.lines |= bit;
        } else {
            self.lines &= !bit;
        }
        if let Some(vcpu) = self.gic.set_line(id, if up { Level::High } else { Level::Low }) {
            self.enter(vcpu);
        }
    }

    fn act(&mut self, act: Act) -> Result<(), TestCaseError> {
        match act {
            Act::Send { to, id } => {
                self.gic.send(to, id);
                self.private[usize::from(to)] |= 1 << id;
            }
            Act::Line { id, up } => self.line(id, up),
            Act::Timer { vcpu, lines } => {
                self.cpus[usize::from(vcpu)].timers = TimerLines(lines & TimerLines::PHYSICAL);
                self.enter(vcpu);
            }
            Act::Distributor { by, offset, width, value } => self.distributor(by, offset, width, value),
            Act::Redistributor { by, of, offset, width, value } => self.redistributor(by, of, offset, width, value),
            Act::Enter(vcpu) => self.enter(vcpu),
            Act::Take(vcpu) => {
                self.take(vcpu)?;
            }
            Act::End(vcpu, n) => {
                let cpu = &mut self.cpus[usize::from(vcpu)];
                match cpu.ending {
                    Ending::Together => cpu.end(),
                    Ending::Apart => cpu.end_any(&self.gic, n),
                };
            }
            Act::Halt(vcpu) => {
                let cpu = &mut self.cpus[usize::from(vcpu)];
                self.gic.fold(vcpu, &mut cpu.lists);
                if !self.gic.pending(vcpu, &cpu.lists, cpu.timers) {
                    self.enter(vcpu);
                    let taken = self.cpus[usize::from(vcpu)].acknowledge();
                    prop_assert_eq!(taken, None, "vCPU {} would have slept over it", vcpu);
                }
            }
        }
        let held = self.cpus.iter().map(|cpu| cpu.lists.held >> FIRST_SPI);
        let all = held.clone().fold(0, |all, held| all | held).count_ones();
        prop_assert_eq!(all, held.map(u64::count_ones).sum::<u32>(), "an SPI is listed twice");
        Ok(())
    }

    /// With everything let through and every line down, what is pending is taken.
    fn finish(mut self) -> Result<(), TestCaseError> {
        (0..32).for_each(|n| self.line(FIRST_SPI + n, false));
        for vcpu in 0..VCPUS {
            self.redistributor(vcpu, vcpu, 0x1_0380, Width::Word, u64::MAX);
            self.cpus[usize::from(vcpu)].timers = TimerLines::DOWN;
        }
        self.distributor(0, 0x384, Width::Word, u64::MAX);
        self.let_through();
        // What another vCPU still holds it gives up when it looks.
        for _ in 0..2 {
            (0..VCPUS).for_each(|vcpu| self.enter(vcpu));
        }
        for vcpu in 0..VCPUS {
            while self.take(vcpu)? {
                let _ = self.cpus[usize::from(vcpu)].end();
            }
        }
        prop_assert_eq!((self.private, self.spis), (vec![0; VCPUS.into()], 0), "pending, and never taken");
        for cpu in &self.cpus {
            prop_assert_eq!(cpu.lists.physical & !cpu.host, 0);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn r26_no_guest_loses_an_interrupt_or_takes_one_twice(
        acts in vec(act(), 1..90),
        limit in select(&[1_u8, 2, 4, 16][..]),
        ending in select(&[Ending::Together, Ending::Apart][..]),
    ) {
        let mut world = World::new(limit, ending);
        for act in acts {
            world.act(act)?;
        }
        world.finish()?;
    }
}
