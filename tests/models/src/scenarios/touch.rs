//! Two CPUs that need the same tables for the first time.
//!
//! ```text
//!   CPU 0  first touch of a page: host tables, frame, stage 2 tables      CPU 1  the same for the page beside it
//! ```
//!
//! Whatever the order, each table has one winner, and what the loser made comes back (R24).

use hv_core::addr::{Gpa, PAGE_SIZE};
use hv_core::epoch::Cpu;

use super::vm::Vm;
use crate::scenario::{About, Model, Scenario};

/// Frames enough for both trees, the pages, and what two CPUs take in vain.
const FRAMES: usize = 16;
/// The host table's reach under a model checker.
const PAGES: u64 = 4;

fn untouched() -> Vm {
    Vm::new(FRAMES, PAGES, |_, _| {})
}

fn first(vm: &Vm, cpu: &Cpu) {
    vm.store(cpu, Gpa(0), 1);
}

fn second(vm: &Vm, cpu: &Cpu) {
    vm.store(cpu, Gpa(PAGE_SIZE as u64), 2);
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&SIDE_BY_SIDE];

static SIDE_BY_SIDE: Scenario<Vm> = Scenario {
    about: About {
        name: "touch-side-by-side",
        rules: "R4,R24",
        race: "two first touches that need the same tables",
        preemptions: 1,
    },
    world: untouched,
    steps: &[first, second],
};
