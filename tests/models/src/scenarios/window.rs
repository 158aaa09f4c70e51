//! Windows that come and go while something else is at work on what they show.
//!
//! ```text
//!   CPU 1  a fault in a block: an empty table of stage 2     CPU 0  the window is cut down to one page
//!          is to give way to a large leaf
//!
//!   CPU 1  a bracket over a page that no window shows        CPU 0  a window onto it is opened
//! ```
//!
//! The size of the leaf is the window's as much as the host's, and the window was read before the lock was taken (R5, R6).
//! Whether a bracket is open does not depend on who can see it (R7).

use backend_fake::{FakeMachine, FakeRadix};
use hv_core::addr::{Gfn, GfnRange, Gpa, Hvn, HvnRange};
use hv_core::epoch::{Cpu, Domain};
use hv_core::host::{HUGE, HugePolicy};
use hv_core::machine::{CpuId, Machine};
use hv_core::memslot::Slot;
use hv_core::mmu::zap::{invalidate, rewindow};
use hv_core::mmu::{GuestMemory, MemoryConfig};
use hv_core::radix::format::Prot;
use hv_core::vcpu::exit::{Access, Fault};

use super::vm::{TAG, ram, store};
use crate::scenario::{About, Model, Scenario, World};

const FRAMES: usize = 8 * HUGE.pages() as usize;

/// A VM of one block of RAM.
#[derive(Debug)]
pub struct Windowed {
    machine: FakeMachine,
    memory: GuestMemory<FakeRadix>,
    /// The first page of its host space.
    base: Hvn,
}

fn windowed(huge: HugePolicy, before: impl FnOnce(&Windowed, &Cpu)) -> Windowed {
    let machine = FakeMachine::new(FRAMES);
    let cpu = machine.epoch().cpu(CpuId(0)).expect("CPU 0 is free");
    let config = MemoryConfig { huge, ..ram(HUGE.pages()) };
    let memory = GuestMemory::new(&cpu, &machine, TAG, config).expect("memory for a VM");
    let first = memory.space().slots.find(&machine.epoch().enter(&cpu), Gfn(0)).expect("RAM");
    let base = first.hvn(Gfn(0)).expect("RAM begins at 0");
    let world = Windowed { machine, memory, base };
    before(&world, &cpu);
    world.machine.epoch().leave(cpu);
    world
}

/// The first `pages` pages are shown, and nothing else is.
fn show(w: &Windowed, cpu: &Cpu, pages: u64) {
    let gfns = GfnRange::new(Gfn(0), pages).expect("pages");
    let slot = Slot::new(gfns, w.base, Prot::all()).expect("a slot");
    rewindow(cpu, &w.machine, w.memory.space(), &[slot]).expect("one slot is no overlap");
}

/// A window onto the block's first page was mapped, and has since grown: stage 2 has an empty table where a large leaf
/// belongs.
fn grown() -> Windowed {
    windowed(HugePolicy::Always, |w, cpu| {
        show(w, cpu, 1);
        touch(w, cpu);
        show(w, cpu, HUGE.pages());
    })
}

/// Nothing is shown.
fn closed() -> Windowed {
    windowed(HugePolicy::Never, |w, cpu| {
        rewindow(cpu, &w.machine, w.memory.space(), &[]).expect("no slot is no overlap");
    })
}

fn touch(w: &Windowed, cpu: &Cpu) {
    w.memory.fault(cpu, &w.machine, &Fault { gpa: Gpa(0), access: Access::Write, claim: () });
}

fn cut_down(w: &Windowed, cpu: &Cpu) {
    show(w, cpu, 1);
}

fn open(w: &Windowed, cpu: &Cpu) {
    show(w, cpu, 1);
}

fn bracket(w: &Windowed, cpu: &Cpu) {
    let pages = HvnRange::new(w.base, 1).expect("a page");
    invalidate(cpu, &w.machine, w.memory.space(), pages, |_| ());
}

impl World for Windowed {
    fn domain(&self) -> &Domain {
        self.machine.epoch()
    }

    fn end(self, cpu: &Cpu) {
        assert!(store(&self.machine, &self.memory, cpu, Gpa(0), 2), "G8: a bracket was left open");
        self.machine.check(cpu, self.memory.space());
        self.memory.destroy(cpu, &self.machine);
        if let Some(seen) = self.machine.violations().first() {
            panic!("{seen}");
        }
    }
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&CUT_DOWN, &OPEN];

static CUT_DOWN: Scenario<Windowed> = Scenario {
    about: About {
        name: "table-makes-way-window-cut",
        rules: "R5,R6,R10,R11,R17",
        race: "a large leaf to replace an empty table of stage 2, against its window being cut down",
        preemptions: 2,
    },
    world: grown,
    steps: &[cut_down, touch],
};

static OPEN: Scenario<Windowed> = Scenario {
    about: About {
        name: "bracket-window-opened",
        rules: "R7,R17",
        race: "a bracket over pages that nothing shows against a window onto them being opened",
        preemptions: 2,
    },
    world: closed,
    steps: &[open, bracket],
};
