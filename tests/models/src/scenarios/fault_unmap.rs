//! A store to a page on one CPU, against the page being taken away on another, and given to an heir.
//!
//! ```text
//!   CPU 1  the guest: store; fault if untranslated; store again      CPU 0  discard (begin, zap, flush, end, free)
//!          or the hypervisor for it: write                                  take a frame, zero it, write a mark
//! ```
//!
//! The discard names the one page, or all pages, and then the tables go as well. Instead of by a fault, the page may be
//! mapped as one of a range, with a table that is built before it is seen.
//!
//! Whatever the order, the mark survives (G1, R6, R8), nobody touches a table that was freed (R2), the caches hold nothing
//! stale (R9), and every frame comes back.

use hv_core::addr::{Gfn, GfnRange, Gpa};
use hv_core::epoch::Cpu;
use hv_core::host::HUGE;
use hv_core::vcpu::exit::Access;

use super::vm::Vm;
use crate::scenario::{About, Model, Scenario};

/// Frames enough for both trees, the guest's page and the heir's.
const FRAMES: usize = 12;
/// The host table's reach under a model checker.
const PAGES: u64 = 4;
/// The page both are after.
const TARGET: Gpa = Gpa(0);

fn untouched() -> Vm {
    Vm::new(FRAMES, PAGES, |_, _| {})
}

/// The guest has the page mapped, and cached on the CPU that will store.
fn mapped() -> Vm {
    Vm::new(FRAMES, PAGES, guest)
}

fn guest(vm: &Vm, cpu: &Cpu) {
    vm.store(cpu, TARGET, 1);
}

/// A table's pages are mapped before the guest asks for them; it stores to one.
fn ranger(vm: &Vm, cpu: &Cpu) {
    let table = GfnRange::new(Gfn(0), HUGE.pages()).expect("some pages");
    vm.memory.map_range(cpu, &vm.machine, table, Access::Write);
    guest(vm, cpu);
}

fn hypervisor(vm: &Vm, cpu: &Cpu) {
    vm.write(cpu, TARGET, 1);
}

/// The hypervisor reads, and finds what was written or nothing.
fn reader(vm: &Vm, cpu: &Cpu) {
    let word = vm.read(cpu, TARGET);
    assert!(word == 1 || word == 0, "G1: a read for a guest found {word:#x}");
}

fn take(vm: &Vm, cpu: &Cpu, pages: u64) {
    vm.memory.discard(cpu, &vm.machine, GfnRange::new(Gfn(0), pages).expect("some pages"));
    vm.inherit(cpu);
}

fn take_page(vm: &Vm, cpu: &Cpu) {
    take(vm, cpu, 1);
}

fn take_all(vm: &Vm, cpu: &Cpu) {
    take(vm, cpu, PAGES);
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&FIRST_TOUCH, &MAPPED, &TABLES, &WRITE, &WRITE_TABLES, &READ_TABLES, &RANGE, &RANGES];

static FIRST_TOUCH: Scenario<Vm> = Scenario {
    about: About {
        name: "fault-first-touch",
        rules: "R5,R6,R8",
        race: "a first touch against the page being taken away",
        preemptions: 2,
    },
    world: untouched,
    steps: &[take_page, guest],
};

static MAPPED: Scenario<Vm> = Scenario {
    about: About {
        name: "store-unmap",
        rules: "R8,R9",
        race: "a store through a cached translation against the page being taken away",
        preemptions: 2,
    },
    world: mapped,
    steps: &[take_page, guest],
};

static TABLES: Scenario<Vm> = Scenario {
    about: About {
        name: "store-unmap-tables",
        rules: "R2,R9,R20",
        race: "a store and a fault against all pages and their tables being taken away",
        preemptions: 2,
    },
    world: mapped,
    steps: &[take_all, guest],
};

static WRITE: Scenario<Vm> = Scenario {
    about: About {
        name: "write-unmap",
        rules: "R2",
        race: "the hypervisor's write for a guest against the page being taken away",
        preemptions: 2,
    },
    world: mapped,
    steps: &[take_page, hypervisor],
};

static WRITE_TABLES: Scenario<Vm> = Scenario {
    about: About {
        name: "write-unmap-tables",
        rules: "R2,R20",
        race: "the hypervisor's write for a guest against all pages and their tables being taken away",
        preemptions: 2,
    },
    world: mapped,
    steps: &[take_all, hypervisor],
};

static READ_TABLES: Scenario<Vm> = Scenario {
    about: About {
        name: "read-unmap-tables",
        rules: "R1,R2,R20",
        race: "a walk of the host table against its tables being freed",
        preemptions: 3,
    },
    world: mapped,
    steps: &[take_all, reader],
};

static RANGE: Scenario<Vm> = Scenario {
    about: About {
        name: "range-unmap",
        rules: "R6,R8,R19",
        race: "a range mapped by whole tables against one of its pages being taken away",
        preemptions: 1,
    },
    world: untouched,
    steps: &[take_page, ranger],
};

static RANGES: Scenario<Vm> = Scenario {
    about: About {
        name: "range-fault",
        rules: "R4,R19,R24",
        race: "a range mapped by whole tables against a fault that makes one of them",
        preemptions: 2,
    },
    world: untouched,
    steps: &[guest, ranger],
};
