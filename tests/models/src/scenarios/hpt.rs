//! POWER's hashed table, the shipped source: a guest's calls on one CPU against what happens to its pages on another.
//!
//! ```text
//!   CPU 1  the guest: H_ENTER, stores; H_REMOVE, H_PROTECT, in real mode      CPU 0  discard: reverse map -> absent, flush
//!          its hardware: loads, stores through what it has cached                    take a frame, zero it, write a mark
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use backend_fake::FakeHpt;
use backend_ppc64::hash::calls::{Called, Context, Counts, RealMode, TableCall, call};
use backend_ppc64::hash::first_run::{NotYet, Offset, Wants};
use backend_ppc64::hash::place::{Place, Segment, VRMA};
use backend_ppc64::hash::table::GROUP;
use backend_ppc64::hash::words::C;
use hv_core::addr::{GfnRange, Gpa, Order};
use hv_core::epoch::{Cpu, Domain};
use hv_core::machine::{CpuId, Machine};
use hv_core::mmu::ready::{Drained, Left};
use hv_core::sync::{SMALL, spin_loop};

use super::vm::{TAG, Vm};
use crate::scenario::{About, Model, Scenario, World};

/// Frames enough for the host table, the hashed one, the guest's page and the heirs'.
const FRAMES: usize = if SMALL { 14 } else { 256 };
/// The host table's reach under a model checker.
const PAGES: u64 = 4;
/// The page both are after.
const TARGET: Gpa = Gpa(0);
/// r: cached memory that anybody may store to.
const RW: u64 = 0x12;
const EXACT: u64 = 1 << (63 - 24);
const SUCCESS: u64 = 0;

/// For the list of all.
pub static ALL: &[&dyn Model] =
    &[&FIRST_TOUCH, &STORED, &ENTERED, &REMOVED, &PROTECTED, &LATE, &STALE, &ROOM, &FIRST_RUN, &REPLACED];

/// A VM, and what a step has seen.
pub struct Table {
    vm: Vm<FakeHpt>,
    /// r, as H_REMOVE returned it.
    returned: AtomicU64,
    /// The guest's hardware has stored.
    stored: AtomicU64,
}

impl Table {
    fn new(before: fn(&Vm<FakeHpt>, &Cpu)) -> Self {
        Self { vm: Vm::new(FRAMES, PAGES, before), returned: AtomicU64::new(0), stored: AtomicU64::new(0) }
    }
}

impl World for Table {
    fn domain(&self) -> &Domain {
        self.vm.domain()
    }

    fn end(self, cpu: &Cpu) {
        let (stored, returned) = (self.stored.load(Ordering::Relaxed), self.returned.load(Ordering::Relaxed));
        assert!(stored == 0 || returned & C != 0, "R14: a store was made, and H_REMOVE returned the page as clean");
        self.vm.end(cpu);
    }
}

fn place(vm: &Vm<FakeHpt>, at: Gpa) -> Place {
    Segment::new(VRMA).expect("a descriptor").place(at.0, vm.memory.stage2().parts().groups())
}

/// A call in real mode, and in virtual mode if that defers.
fn made(vm: &Vm<FakeHpt>, cpu: &Cpu, number: TableCall, args: &[u64]) -> [u64; 32] {
    let mut gpr = [0; 32];
    gpr[3] = number as u64;
    gpr[4..4 + args.len()].copy_from_slice(args);
    let real = Context::Real(RealMode::on(cpu, 0).expect("translation is off"));
    for ctx in [real, Context::Virtual(cpu)] {
        match call(ctx, &vm.machine, &vm.memory, vm.memory.stage2(), &mut gpr, &mut Counts::default()) {
            Called::Done => return gpr,
            Called::Defer => {}
            other => panic!("{number:?} ended as {other:?}"),
        }
    }
    panic!("R21: virtual mode deferred {number:?}")
}

fn enter(vm: &Vm<FakeHpt>, cpu: &Cpu) -> u64 {
    let place = place(vm, TARGET);
    let gpr = made(vm, cpu, TableCall::Enter, &[0, place.group * GROUP, place.v, TARGET.0 | RW]);
    assert_eq!(gpr[3], SUCCESS, "R4: an empty group has no room");
    gpr[4]
}

/// The number of the page's entry, which is the only one in its group.
fn index(vm: &Vm<FakeHpt>) -> u64 {
    place(vm, TARGET).group * GROUP
}

/// The page is there, and has no entry.
fn present(vm: &Vm<FakeHpt>, cpu: &Cpu) {
    vm.write(cpu, TARGET, 1);
}

/// The guest has the page mapped, and cached on CPU 1, from which it has stored.
fn mapped(vm: &Vm<FakeHpt>, cpu: &Cpu) {
    present(vm, cpu);
    assert_eq!(enter(vm, cpu), index(vm), "the group's first entry");
    assert!(vm.machine.guest_store(cpu, vm.memory.stage2(), TAG, TARGET, 1), "the entry is valid at once");
}

/// The same, and nobody has used it.
fn entered(vm: &Vm<FakeHpt>, cpu: &Cpu) {
    present(vm, cpu);
    enter(vm, cpu);
}

/// The same, and CPU 2 has it cached as clean.
fn cached(vm: &Vm<FakeHpt>, cpu: &Cpu) {
    entered(vm, cpu);
    assert!(vm.machine.agent(vm.memory.stage2(), TAG).fill(CpuId(2), TARGET), "the entry is valid at once");
}

/// All of the page's group but its last entry is in use.
fn crowded(vm: &Vm<FakeHpt>, cpu: &Cpu) {
    let place = place(vm, TARGET);
    for n in 0..GROUP - 1 {
        let args = [EXACT, place.group * GROUP + n, place.v, TARGET.0 | RW];
        assert_eq!(made(vm, cpu, TableCall::Enter, &args)[3], SUCCESS);
    }
}

fn take(world: &Table, cpu: &Cpu) {
    let vm = &world.vm;
    vm.memory.discard(cpu, &vm.machine, GfnRange::new(TARGET.page(), 1).expect("a page"));
    vm.inherit(cpu);
}

fn guest(world: &Table, cpu: &Cpu) {
    world.vm.store(cpu, TARGET, 2);
}

fn enters(world: &Table, cpu: &Cpu) {
    enter(&world.vm, cpu);
    let vm = &world.vm;
    vm.machine.guest_store(cpu, vm.memory.stage2(), TAG, TARGET, 2);
}

fn removes(world: &Table, cpu: &Cpu) {
    let gpr = made(&world.vm, cpu, TableCall::Remove, &[0, index(&world.vm), 0]);
    assert_eq!(gpr[3], SUCCESS, "the guest's entry is not there");
    world.returned.store(gpr[5], Ordering::Relaxed);
}

/// Not for execution any more.
fn protects(world: &Table, cpu: &Cpu) {
    assert_eq!(made(&world.vm, cpu, TableCall::Protect, &[2 | 4, index(&world.vm), 0])[3], SUCCESS);
}

/// Hardware caches the page as clean, and then stores.
fn stores(world: &Table, cpu: &Cpu) {
    let agent = world.vm.machine.agent(world.vm.memory.stage2(), TAG);
    if agent.load(cpu.id(), TARGET).is_some() && agent.store(cpu.id(), TARGET, 3) {
        world.stored.store(1, Ordering::Relaxed);
    }
}

/// Hardware stores through what it has cached, if it has.
fn stores_late(world: &Table, cpu: &Cpu) {
    let agent = world.vm.machine.agent(world.vm.memory.stage2(), TAG);
    if agent.store(cpu.id(), TARGET, 3) {
        world.stored.store(1, Ordering::Relaxed);
    }
}

fn discards(world: &Table, cpu: &Cpu) {
    let vm = &world.vm;
    vm.memory.discard(cpu, &vm.machine, GfnRange::new(TARGET.page(), 1).expect("a page"));
}

fn reads(world: &Table, cpu: &Cpu) {
    let last = index(&world.vm) + GROUP - 1;
    assert_eq!(made(&world.vm, cpu, TableCall::Read, &[0, last])[3], SUCCESS);
}

fn wants_room(world: &Table, cpu: &Cpu) {
    let place = place(&world.vm, TARGET);
    let gpr = made(&world.vm, cpu, TableCall::Enter, &[0, index(&world.vm), place.v, TARGET.0 | RW]);
    assert_eq!(gpr[3], SUCCESS, "R4: a group with a free entry was called full");
}

/// What a first run makes ready here: as on ISA 2.07, so that there are registers to be seen.
const WANTS: Wants = Wants { offset: Offset::Perhaps, rmo: None, page: Order::PAGE };

/// A vCPU begins, and runs: everything that the builder wrote is there.
fn first_run(world: &Table, cpu: &Cpu) {
    let (m, memory) = (&world.vm.machine, &world.vm.memory);
    let table = memory.stage2();
    let permit = loop {
        match table.begin(cpu, m, memory, &WANTS) {
            Ok(permit) => break permit,
            Err(NotYet::Wait) => spin_loop(),
            Err(NotYet::Failed(why)) => panic!("R19: {why:?}"),
        }
    };
    assert_eq!(table.first_run().registers(&permit).lpcr, 1 << 63, "R19: a vCPU runs with what LPCR was before");
    let walk = m.epoch().enter(cpu);
    let segment = Segment::new(VRMA).expect("a descriptor");
    let area = table.parts().groups().min(PAGES);
    let there = (0..area).all(|page| table.entry_for(m, &walk, &segment, page << 12).is_some());
    assert!(there, "R19: a vCPU runs before its real-mode area is whole");
    drop(walk);
    // The last one out of a table that is drained.
    if let Left::Last(drained) = permit.leave() {
        take_apart(world, cpu, drained);
    }
}

/// Takes all entries out, as whoever replaces a table does.
fn take_apart(world: &Table, cpu: &Cpu, drained: Drained) {
    for index in 0..world.vm.memory.stage2().parts().entries() {
        made(&world.vm, cpu, TableCall::Remove, &[0, index, 0]);
    }
    drop(drained);
}

fn drains(world: &Table, cpu: &Cpu) {
    if let Some(drained) = world.vm.memory.stage2().first_run().ready().drain() {
        take_apart(world, cpu, drained);
    }
}

static FIRST_TOUCH: Scenario<Table> = Scenario {
    about: About {
        name: "hpt-first-touch",
        rules: "R4,R6,R8,R18",
        race: "an answer to a guest's new entry against the page being taken away",
        preemptions: 2,
    },
    world: || Table::new(|_, _| {}),
    steps: &[take, guest],
};

static STORED: Scenario<Table> = Scenario {
    about: About {
        name: "hpt-store-unmap",
        rules: "R8,R9,R18",
        race: "a store through a cached entry against the page being taken away",
        preemptions: 2,
    },
    world: || Table::new(mapped),
    steps: &[take, guest],
};

static ENTERED: Scenario<Table> = Scenario {
    about: About {
        name: "hpt-enter-unmap",
        rules: "R5,R6,R8,R18",
        race: "H_ENTER of a page in real mode against the page being taken away",
        preemptions: 2,
    },
    world: || Table::new(present),
    steps: &[take, enters],
};

static REMOVED: Scenario<Table> = Scenario {
    about: About {
        name: "hpt-remove-unmap",
        rules: "R9,R18,R20",
        race: "H_REMOVE in real mode against the page being taken away",
        preemptions: 2,
    },
    world: || Table::new(mapped),
    steps: &[take, removes],
};

static PROTECTED: Scenario<Table> = Scenario {
    about: About {
        name: "hpt-protect-unmap",
        rules: "R9,R10,R18",
        race: "H_PROTECT in real mode against the page being taken away",
        preemptions: 2,
    },
    world: || Table::new(mapped),
    steps: &[take, protects],
};

static LATE: Scenario<Table> = Scenario {
    about: About {
        name: "hpt-remove-store",
        rules: "R14",
        race: "H_REMOVE against a store through the entry, cached as clean",
        preemptions: 2,
    },
    world: || Table::new(entered),
    steps: &[removes, stores],
};

static STALE: Scenario<Table> = Scenario {
    about: About {
        name: "hpt-remove-unmap-store",
        rules: "R9,R14",
        race: "H_REMOVE of an entry that was zapped and not yet flushed, against a store through it",
        preemptions: 2,
    },
    world: || Table::new(cached),
    steps: &[discards, removes, stores_late],
};

static ROOM: Scenario<Table> = Scenario {
    about: About {
        name: "hpt-enter-locked",
        rules: "R4,R21",
        race: "H_ENTER into a group whose free entry somebody has locked for a look",
        preemptions: 2,
    },
    world: || Table::new(crowded),
    steps: &[reads, wants_room],
};

static FIRST_RUN: Scenario<Table> = Scenario {
    about: About {
        name: "hpt-first-run",
        rules: "R19,R20,R21",
        race: "two vCPUs' first runs of one VM, both of which go on at once",
        preemptions: 2,
    },
    world: || Table::new(|_, _| {}),
    steps: &[first_run, first_run],
};

static REPLACED: Scenario<Table> = Scenario {
    about: About {
        name: "hpt-first-run-drain",
        rules: "R19,R20",
        race: "a first run against its table being drained, to be taken apart",
        preemptions: 2,
    },
    world: || Table::new(|_, _| {}),
    steps: &[drains, first_run],
};
