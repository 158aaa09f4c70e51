//! Two CPUs that change the structure of one host table.
//!
//! ```text
//!   CPU 1  discard of a page of the block           CPU 0  collapse: the small pages become a huge one
//!          take a frame, zero it, write a mark
//! ```
//!
//! Each takes out what it found and gives it to the allocator, so only one of them may be at it (R21, B4).

use hv_core::addr::{Gfn, GfnRange, Gpa, PAGE_SIZE};
use hv_core::epoch::Cpu;
use hv_core::host::{HUGE, HugePolicy, ScanCursor};
use hv_core::mmu::MemoryConfig;

use super::vm::{Vm, ram};
use crate::scenario::{About, Model, Scenario};

/// Frames for both trees, a block of each kind, and the heir.
const FRAMES: usize = 8 + 4 * HUGE.pages() as usize;

/// A block of small pages, all there, in frames that do not follow each other, to be mapped huge from now on.
fn scattered() -> Vm {
    Vm::with(FRAMES, MemoryConfig { huge: HugePolicy::Advise, ..ram(HUGE.pages()) }, |vm, cpu| {
        for n in (0..HUGE.pages()).rev() {
            vm.write(cpu, Gpa(n * PAGE_SIZE as u64), 1);
        }
        vm.memory.advise(cpu, &vm.machine, pages(HUGE.pages()));
    })
}

fn pages(n: u64) -> GfnRange {
    GfnRange::new(Gfn(0), n).expect("pages")
}

fn collapse(vm: &Vm, cpu: &Cpu) {
    vm.memory.scan(cpu, &vm.machine, &mut ScanCursor::default());
}

fn take(vm: &Vm, cpu: &Cpu) {
    vm.memory.discard(cpu, &vm.machine, pages(1));
    vm.inherit(cpu);
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&COLLAPSE];

static COLLAPSE: Scenario<Vm> = Scenario {
    about: About {
        name: "collapse-take",
        rules: "R3,R21,R24",
        race: "a block being copied to a huge one against one of its pages being taken away",
        preemptions: 2,
    },
    world: scattered,
    steps: &[collapse, take],
};
