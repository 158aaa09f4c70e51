//! Hardware on its own account: it walks, caches and sets R and C at any moment, and no fault follows.
//!
//! ```text
//!   CPU 1  its hardware: caches tables and leaves, stores through them     CPU 0  discard of all pages, and of their tables
//!                                                                                 take a frame, zero it, write a mark
//! ```

use backend_fake::Agent;
use hv_core::addr::{Gfn, GfnRange, Gpa};
use hv_core::epoch::Cpu;
use hv_core::vcpu::exit::{Access, Fault};

use super::vm::{TAG, Vm};
use crate::scenario::{About, Model, Scenario};

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&FILLS, &STORES];

/// Frames enough for both trees, the guest's pages and the heir's.
const FRAMES: usize = 12;
/// The host table's reach under a model checker.
const PAGES: u64 = 4;
/// The page that is mapped.
const TARGET: Gpa = Gpa(0);

/// The page is mapped, and no CPU has touched it since.
fn mapped() -> Vm {
    Vm::new(FRAMES, PAGES, |vm, cpu| {
        vm.memory.fault(cpu, &vm.machine, &Fault { gpa: TARGET, access: Access::Write, claim: () });
    })
}

fn pages() -> GfnRange {
    GfnRange::new(Gfn(0), PAGES).expect("some pages")
}

fn agent(vm: &Vm) -> Agent<'_> {
    vm.machine.agent(vm.memory.stage2(), TAG)
}

fn take(vm: &Vm, cpu: &Cpu) {
    vm.memory.discard(cpu, &vm.machine, pages());
    vm.inherit(cpu);
}

fn fills(vm: &Vm, cpu: &Cpu) {
    for gfn in 0..2 {
        agent(vm).fill(cpu.id(), Gfn(gfn).addr().expect("a page of RAM"));
    }
}

/// A load caches the page as clean, so that the store finds its entry in memory again, or finds it gone.
fn stores(vm: &Vm, cpu: &Cpu) {
    agent(vm).load(cpu.id(), TARGET);
    agent(vm).store(cpu.id(), TARGET, 2);
}

static FILLS: Scenario<Vm> = Scenario {
    about: About {
        name: "hardware-fills-unmap-tables",
        rules: "R2,R9,R20",
        race: "walks of hardware against all pages and their tables being taken away",
        preemptions: 2,
    },
    world: mapped,
    steps: &[take, fills],
};

static STORES: Scenario<Vm> = Scenario {
    about: About {
        name: "hardware-sets-c-late-unmap-tables",
        rules: "R2,R9,R14,R20",
        race: "a store through what was cached as clean against all pages and their tables being taken away",
        preemptions: 2,
    },
    world: mapped,
    steps: &[take, stores],
};
