//! A block that takes the place of the pages it was mapped by.
//!
//! ```text
//!   CPU 0  faults beside the page: the block is to be one leaf       CPU 1  has the page cached, and uses it meanwhile
//!          (bracket, unmap, flush, one leaf)
//! ```
//!
//! Whatever the order, no two CPUs hold the address in different sizes (G9, R10), and the table of the pages comes back.

use hv_core::addr::{GfnRange, Gpa, HvnRange, PAGE_SIZE};
use hv_core::epoch::Cpu;
use hv_core::host::{HUGE, HugePolicy};
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::MemoryConfig;
use hv_core::radix::format::Prot;
use hv_core::vcpu::exit::{Access, Fault};

use super::vm::{TAG, Vm, ram};
use crate::scenario::{About, Model, Scenario};

/// Frames for both trees, the block, and a second one.
const FRAMES: usize = 8 + 2 * HUGE.pages() as usize;
const PAGE: Gpa = Gpa(0);
const BESIDE: Gpa = Gpa(PAGE_SIZE as u64);

/// The host table has one leaf, and stage 2 a page of it: what is left of a time when the guest had to be mapped page by
/// page, as while its stores are logged. Here a narrower window is the reason.
fn by_pages() -> Vm {
    let config = MemoryConfig { huge: HugePolicy::Always, ..ram(HUGE.pages()) };
    Vm::with(FRAMES, config, |vm, cpu| {
        vm.write(cpu, PAGE, 1);
        map_page(vm, cpu);
        assert!(vm.store(cpu, PAGE, 1), "nobody is in the way");
    })
}

fn map_page(vm: &Vm, cpu: &Cpu) {
    let (space, m) = (vm.memory.space(), &vm.machine);
    let (hvn, _) = vm.behind(cpu, PAGE);
    let window = Slot::new(GfnRange::new(PAGE.page(), 1).expect("a page"), hvn, Prot::all()).expect("a window");
    let seq = space.mmu.sample();
    let section = space.mmu.enter(cpu, m.epoch());
    let fresh = section.revalidate(seq, HvnRange::new(hvn, 1).expect("a page")).expect("nothing changes");
    let primary = fresh.primary(m, &space.host, hvn).expect("the page is there");
    let to = space.target(m, (), Prot::WRITE);
    let order = fresh.install(&to, &window, PAGE.page(), primary).expect("nothing is in the way");
    assert!(order < HUGE, "R11: more is mapped than the window shows");
}

/// Its hardware has not walked there before, so what it caches is what stands there afterwards.
fn map_block(vm: &Vm, cpu: &Cpu) {
    vm.memory.fault(cpu, &vm.machine, &Fault { gpa: BESIDE, access: Access::Write, claim: () });
    vm.machine.guest_store(cpu, vm.memory.stage2(), TAG, BESIDE, 2);
}

fn store(vm: &Vm, cpu: &Cpu) {
    vm.store(cpu, PAGE, 3);
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&REPLACED];

static REPLACED: Scenario<Vm> = Scenario {
    about: About {
        name: "block-replaces-pages",
        rules: "R9,R10",
        race: "a large leaf put where a CPU has a page of it cached, against stores through that",
        preemptions: 2,
    },
    world: by_pages,
    steps: &[map_block, store],
};
