//! The fast path of a fault, in which nothing may be waited for, against the page being taken away.
//!
//! ```text
//!   CPU 1  the host table has the page, stage 2 has not:      CPU 0  discard (begin, zap, flush, end, free)
//!          fault: sample, walk, commit at once; store                take a frame, zero it, write a mark
//! ```
//!
//! Where other scenarios fault, a hole is filled or a bracket is open already, and the slow path answers. Here the walk
//! that may wait for nothing is what the invalidator has to wait for (R2, R6).

use hv_core::addr::{Gfn, GfnRange, Gpa, PAGE_SIZE};
use hv_core::epoch::Cpu;
use hv_core::vcpu::exit::{Access, Fault};

use super::vm::{TAG, Vm};
use crate::scenario::{About, Model, Scenario};

const FRAMES: usize = 12;
const PAGES: u64 = 4;
const TARGET: Gpa = Gpa(0);
const NEIGHBOUR: Gpa = Gpa(PAGE_SIZE as u64);

/// The hypervisor has written the page, and the guest has not touched it. The neighbour is mapped, so that stage 2 has the
/// tables.
fn present() -> Vm {
    Vm::new(FRAMES, PAGES, |vm, cpu| {
        assert!(vm.store(cpu, NEIGHBOUR, 1), "nobody is in the way");
        vm.write(cpu, TARGET, 1);
    })
}

fn guest(vm: &Vm, cpu: &Cpu) {
    vm.memory.fault(cpu, &vm.machine, &Fault { gpa: TARGET, access: Access::Write, claim: () });
    vm.machine.guest_store(cpu, vm.memory.stage2(), TAG, TARGET, 1);
}

fn take(vm: &Vm, cpu: &Cpu) {
    vm.memory.discard(cpu, &vm.machine, GfnRange::new(Gfn(0), 1).expect("a page"));
    vm.inherit(cpu);
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&PAGE];

static PAGE: Scenario<Vm> = Scenario {
    about: About {
        name: "fast-unmap",
        rules: "R2,R5,R6,R8",
        race: "a fault answered at once against its page being taken away",
        preemptions: 2,
    },
    world: present,
    steps: &[take, guest],
};
