//! A table that the guest fills, on one CPU, against a page of it being taken away on another.
//!
//! ```text
//!   CPU 1  the guest: enters, faults, stores; removes its entry       CPU 0  discard: reverse map -> absent, flush, free
//!                                                                            take a frame, zero it, write a mark
//! ```
//!
//! The guest's own removal and the hypervisor's meet in the reverse map: whoever finds no record there must be able to
//! rely on nothing being cached (R9).

use backend_fake::FakeHash;
use hv_core::addr::{Gfn, GfnRange, Gpa, Order};
use hv_core::epoch::Cpu;

use super::vm::{TAG, Vm};
use crate::scenario::{About, Model, Scenario};
use hv_core::sync::SMALL;

/// Frames enough for the host table, the hashed one, the guest's page and the heir's.
const FRAMES: usize = if SMALL { 12 } else { 192 };
/// The host table's reach under a model checker.
const PAGES: u64 = 4;
/// The page both are after.
const TARGET: Gpa = Gpa(0);

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&FIRST_TOUCH, &MAPPED, &REMOVED, &MOVED];

type HashVm = Vm<FakeHash>;

fn untouched() -> HashVm {
    Vm::new(FRAMES, PAGES, |_, _| {})
}

/// The guest has the page mapped, and cached on CPU 1.
fn mapped() -> HashVm {
    Vm::new(FRAMES, PAGES, guest)
}

fn guest(vm: &HashVm, cpu: &Cpu) {
    vm.store(cpu, TARGET, 1);
}

fn take(vm: &HashVm, cpu: &Cpu) {
    vm.memory.discard(cpu, &vm.machine, GfnRange::new(TARGET.page(), 1).expect("a page"));
    vm.inherit(cpu);
}

/// Returns the entry's place.
fn remove_target(vm: &HashVm, cpu: &Cpu) -> usize {
    let stage2 = vm.memory.stage2();
    let entry = stage2.enter(cpu, &vm.machine, TARGET.page(), Order::PAGE);
    stage2.remove(cpu, &vm.machine, entry.index);
    entry.index
}

fn remove(vm: &HashVm, cpu: &Cpu) {
    remove_target(vm, cpu);
}

/// The entry's place goes to another page, which nobody takes away.
fn remove_and_move(vm: &HashVm, cpu: &Cpu) {
    let place = remove_target(vm, cpu);
    let stage2 = vm.memory.stage2();
    let moved = |gfn: &u64| {
        let entry = stage2.enter(cpu, &vm.machine, Gfn(*gfn), Order::PAGE);
        entry.index == place
    };
    let Some(gfn) = (1..PAGES).find(moved) else {
        // A whole table has places enough: nothing moves, and what is left is a removal. A checker's has not.
        if SMALL {
            panic!("none of the pages hashes to the same place");
        }
        return;
    };
    let at = Gfn(gfn).addr().expect("a page of RAM");
    vm.store(cpu, at, 1);
    assert!(vm.machine.guest_store(cpu, stage2, TAG, at, 2), "R18: an entry was taken away by the record of another");
}

static FIRST_TOUCH: Scenario<HashVm> = Scenario {
    about: About {
        name: "hash-first-touch",
        rules: "R4,R6,R8,R18",
        race: "an answer to a guest's new entry against the page being taken away",
        preemptions: 2,
    },
    world: untouched,
    steps: &[take, guest],
};

static MAPPED: Scenario<HashVm> = Scenario {
    about: About {
        name: "hash-store-unmap",
        rules: "R8,R9,R18",
        race: "a store through a cached entry against the page being taken away",
        preemptions: 2,
    },
    world: mapped,
    steps: &[take, guest],
};

static REMOVED: Scenario<HashVm> = Scenario {
    about: About {
        name: "hash-remove-unmap",
        rules: "R9,R18",
        race: "the guest's removal of its entry against the page being taken away",
        preemptions: 2,
    },
    world: mapped,
    steps: &[take, remove],
};

static MOVED: Scenario<HashVm> = Scenario {
    about: About {
        name: "hash-move-unmap",
        rules: "R4,R9,R18",
        race: "an entry's place given to another page and answered, against the first page being taken away",
        preemptions: 2,
    },
    world: mapped,
    steps: &[take, remove_and_move],
};
