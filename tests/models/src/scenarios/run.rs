//! Memory that comes and goes in runs larger than one leaf.
//!
//! ```text
//!   CPU 0  first touch: the run's leaves, one after the other     CPU 1  looks at the run, touches it, or takes it away
//! ```
//!
//! Whoever is told that a page is as large as its run finds all of the run, in frames side by side (G3). Of two first
//! touches one brings it, and what the other made goes back (R24).

use hv_core::addr::{GfnRange, Gpa, Hvn, Order, PAGE_SIZE};
use hv_core::epoch::Cpu;
use hv_core::host::{HUGE, Peek};
use hv_core::machine::Machine;
use hv_core::mmu::MemoryConfig;

use super::vm::{Vm, ram};
use crate::scenario::{About, Model, Scenario};

/// Two huge leaves: the host table's reach under a model checker.
const RUN: Order = match Order::new(HUGE.get() + 1) {
    Some(order) => order,
    None => Order::MAX,
};
/// Frames for both trees, a run for each of two CPUs, and the heir.
const FRAMES: usize = 8 + 3 * RUN.pages() as usize;

fn untouched() -> Vm {
    Vm::with(FRAMES, MemoryConfig { granule: RUN, ..ram(RUN.pages()) }, |_, _| {})
}

fn touched() -> Vm {
    Vm::with(FRAMES, MemoryConfig { granule: RUN, ..ram(RUN.pages()) }, |vm, cpu| {
        assert!(vm.store(cpu, Gpa(0), 1), "nobody is in the way");
    })
}

fn first(vm: &Vm, cpu: &Cpu) {
    vm.store(cpu, Gpa(0), 1);
}

fn last(vm: &Vm, cpu: &Cpu) {
    vm.store(cpu, Gpa((RUN.pages() - 1) * PAGE_SIZE as u64), 2);
}

fn take(vm: &Vm, cpu: &Cpu) {
    vm.memory.discard(cpu, &vm.machine, GfnRange::new(Gpa(0).page(), RUN.pages()).expect("a run"));
    vm.inherit(cpu);
}

fn look(vm: &Vm, cpu: &Cpu) {
    let guard = vm.machine.epoch().enter(cpu);
    let peek = |n| vm.memory.space().host.peek(&vm.machine, &guard, Hvn(n));
    let Peek::Page(head) = peek(0) else { return };
    assert_eq!(head.order, RUN, "G3: a page of a run is smaller than the run");
    for n in 1..RUN.pages() {
        let Peek::Page(page) = peek(n) else { panic!("G3: a run was shown that is there in part") };
        assert_eq!(page.pfn.0, head.pfn.0 + n, "G3: frames of a run do not lie side by side");
    }
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&LOOK, &BOTH, &TAKE];

static LOOK: Scenario<Vm> = Scenario {
    about: About {
        name: "run-first-touch-look",
        rules: "R3,R11,R19",
        race: "a look at a run while its leaves are put",
        preemptions: 2,
    },
    world: untouched,
    steps: &[last, look],
};

static BOTH: Scenario<Vm> = Scenario {
    about: About {
        name: "run-first-touches",
        rules: "R4,R24",
        race: "two first touches of one run, at either end",
        preemptions: 1,
    },
    world: untouched,
    steps: &[first, last],
};

static TAKE: Scenario<Vm> = Scenario {
    about: About {
        name: "run-taken-store",
        rules: "R6,R8,R20",
        race: "a store into a run that is being taken away",
        preemptions: 2,
    },
    world: touched,
    steps: &[take, last],
};
