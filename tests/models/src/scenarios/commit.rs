//! The commit section against brackets: what was derived before an invalidation is not published after it.
//!
//! ```text
//!   CPU 1  seq = sample; reads the truth; section; revalidate; copies      CPU 0  bracket: copy dropped, truth changed
//!   CPU 2  (in one of them) another bracket, elsewhere, before, after or inside that one
//!
//!   CPU 1  the guest touches a page through a window                       CPU 0  the window is moved (R17)
//!
//!   CPU 1  counts the translations                                        CPU 0  the window is closed, its tables go
//!
//!   CPU 1  stores to a page of a block that has come to be mapped with      CPU 0  stores to another page of it
//!          one leaf, and where an empty table stands in stage 2
//! ```
//!
//! In the first, what is derived is a number, and nothing but the sequence protects it: the position of a gfn-to-pfn
//! cache (R23), and the strictest. In the second it is the slot.

use backend_fake::{FakeMachine, FakeRadix};
use hv_core::addr::{Gfn, GfnRange, Gpa, Hvn, HvnRange, Order, PAGE_SIZE};
use hv_core::epoch::{Cpu, Domain};
use hv_core::host::{HUGE, HugePolicy, Peek, Regions};
use hv_core::isa::Stage2;
use hv_core::machine::{CpuId, Machine};
use hv_core::memslot::Slot;
use hv_core::mmu::census::Census;
use hv_core::mmu::zap::{invalidate, rewindow};
use hv_core::mmu::{GuestMemory, MemoryConfig, Space};
use hv_core::radix::format::{Prot, Pte};
use hv_core::sync::{AtomicU64, Ordering};
use hv_core::vcpu::exit::{Access, Fault};

use super::vm::TAG;
use crate::scenario::{About, Model, Scenario, World, as_cpu};

const FRAMES: usize = 16;
/// The host table's reach under a model checker.
const PAGES: u64 = 4;

/// Nothing has been copied.
const NONE: u64 = 0;
const OLD: u64 = 1;
const NEW: u64 = 2;

/// A truth with a copy, and the brackets of a VM around them.
#[derive(Debug)]
pub struct Copied {
    machine: FakeMachine,
    /// Not on the stacks, which are small here, and over which worlds are moved.
    space: Box<Space<FakeRadix>>,
    truth: AtomicU64,
    copy: AtomicU64,
}

fn pages(from: u64, pages: u64) -> HvnRange {
    HvnRange::new(Hvn(from), pages).expect("pages")
}

fn uncopied() -> Copied {
    let machine = FakeMachine::new(FRAMES);
    let space = as_cpu(machine.epoch(), 0, |cpu| {
        Space::new(cpu, &machine, TAG, Regions::default(), &[]).map(Box::new).expect("memory for a VM")
    });
    Copied { machine, space, truth: AtomicU64::new(OLD), copy: AtomicU64::new(NONE) }
}

/// Copies the truth about page 0, if it still is one.
fn copy(w: &Copied, cpu: &Cpu) {
    let seq = w.space.mmu.sample();
    let seen = w.truth.load(Ordering::Relaxed);
    let section = w.space.mmu.enter(cpu, w.machine.epoch());
    if let Ok(_fresh) = section.revalidate(seq, pages(0, 1)) {
        w.copy.store(seen, Ordering::Relaxed);
    }
}

/// Changes the truth about page 0.
fn change(w: &Copied, cpu: &Cpu) {
    invalidate(cpu, &w.machine, &w.space, pages(0, 1), |_| {
        w.copy.store(NONE, Ordering::Relaxed);
        w.truth.store(NEW, Ordering::Relaxed);
    });
}

/// Changes something else.
fn change_elsewhere(w: &Copied, cpu: &Cpu) {
    invalidate(cpu, &w.machine, &w.space, pages(2, 2), |_| ());
}

fn change_both(w: &Copied, cpu: &Cpu) {
    change(w, cpu);
    change_elsewhere(w, cpu);
}

impl World for Copied {
    fn domain(&self) -> &Domain {
        self.machine.epoch()
    }

    fn end(self, cpu: &Cpu) {
        let copy = self.copy.load(Ordering::Relaxed);
        assert!(copy != OLD, "G2: what was true before a bracket was published after it");
        self.space.destroy(cpu, &self.machine);
    }
}

/// A VM whose only window is moved from one host page to another.
#[derive(Debug)]
pub struct Moved {
    machine: FakeMachine,
    memory: GuestMemory<FakeRadix>,
    /// The first page of its host space.
    base: Hvn,
}

/// Guest frame 0 shows the first host page, which nobody has touched: the fault brings it, and for that leaves the walk in
/// which it found its window. The second host page is there.
fn unmoved() -> Moved {
    let machine = FakeMachine::new(FRAMES);
    let cpu = machine.epoch().cpu(CpuId(0)).expect("CPU 0 is free");
    let memory = GuestMemory::new(&cpu, &machine, TAG, PAGES * PAGE_SIZE as u64).expect("memory for a VM");
    memory.write(&cpu, &machine, Gpa(PAGE_SIZE as u64), &[1]).expect("there is memory");
    let first = memory.space().slots.find(&machine.epoch().enter(&cpu), Gfn(0)).expect("RAM");
    let base = first.hvn(Gfn(0)).expect("RAM begins at 0");
    let world = Moved { machine, memory, base };
    show(&world, &cpu, 0);
    world.machine.epoch().leave(cpu);
    world
}

/// Guest frame 0 shows host page number `page`, and nothing else is shown.
fn show(w: &Moved, cpu: &Cpu, page: u64) {
    let gfns = GfnRange::new(Gfn(0), 1).expect("a page");
    let slot = Slot::new(gfns, Hvn(w.base.0 + page), Prot::all()).expect("a slot");
    rewindow(cpu, &w.machine, w.memory.space(), &[slot]).expect("one slot is no overlap");
}

fn move_window(w: &Moved, cpu: &Cpu) {
    show(w, cpu, 1);
}

/// The guest touches guest frame 0.
fn touch(w: &Moved, cpu: &Cpu) {
    w.memory.fault(cpu, &w.machine, &Fault { gpa: Gpa(0), access: Access::Write, claim: () });
}

/// Every page is mapped, so that stage 2 has tables below its root.
fn shown() -> Moved {
    let world = unmoved();
    as_cpu(world.machine.epoch(), 0, |cpu| {
        let gfns = GfnRange::new(Gfn(0), PAGES).expect("pages");
        let slot = Slot::new(gfns, world.base, Prot::all()).expect("a slot");
        rewindow(cpu, &world.machine, world.memory.space(), &[slot]).expect("one slot is no overlap");
        touch(&world, cpu);
    });
    world
}

fn close_window(w: &Moved, cpu: &Cpu) {
    rewindow(cpu, &w.machine, w.memory.space(), &[]).expect("no slot is no overlap");
}

/// Counts the translations, as statistics do at any time.
fn count(w: &Moved, cpu: &Cpu) {
    let mut census = Census::new();
    let gfns = GfnRange::new(Gfn(0), PAGES).expect("pages");
    Stage2::<FakeRadix>::census(w.memory.stage2(), cpu, &w.machine, gfns, &mut census);
    assert!(census.pages() <= 1, "G2: more is mapped than anybody touched");
}

/// A VM whose first block is one leaf in the host table.
#[derive(Debug)]
struct Grown {
    machine: FakeMachine,
    memory: GuestMemory<FakeRadix>,
}

/// A window onto the block's first page was mapped, and has since grown: stage 2 has an empty table where a large leaf
/// belongs.
fn grown() -> Grown {
    let machine = FakeMachine::new(8 * HUGE.pages() as usize);
    let cpu = machine.epoch().cpu(CpuId(0)).expect("CPU 0 is free");
    let config = MemoryConfig { huge: HugePolicy::Always, ..MemoryConfig::from(HUGE.bytes()) };
    let memory = GuestMemory::new(&cpu, &machine, TAG, config).expect("memory for a VM");
    let world = Grown { machine, memory };
    let whole = world.memory.space().slots.all(&world.machine.epoch().enter(&cpu));
    let base = whole.first().and_then(|slot| slot.hvn(Gfn(0))).expect("RAM begins at 0");
    let page = Slot::new(GfnRange::new(Gfn(0), 1).expect("a page"), base, Prot::all()).expect("a slot");
    for windows in [&[page], &whole[..]] {
        rewindow(&cpu, &world.machine, world.memory.space(), windows).expect("one slot is no overlap");
        if windows.contains(&page) {
            store(&world, &cpu, 0);
        }
    }
    world.machine.epoch().leave(cpu);
    world
}

/// The guest stores to guest frame `page`, faulting as often as the other CPU makes it.
fn store(w: &Grown, cpu: &Cpu, page: u64) {
    let at = Gpa(page * PAGE_SIZE as u64);
    for _ in 0..3 {
        if w.machine.guest_store(cpu, w.memory.stage2(), TAG, at, 1) {
            break;
        }
        w.memory.fault(cpu, &w.machine, &Fault { gpa: at, access: Access::Write, claim: () });
    }
}

fn store_first(w: &Grown, cpu: &Cpu) {
    store(w, cpu, 0);
}

fn store_second(w: &Grown, cpu: &Cpu) {
    store(w, cpu, 1);
}

impl World for Grown {
    fn domain(&self) -> &Domain {
        self.machine.epoch()
    }

    fn end(self, cpu: &Cpu) {
        let census = self.memory.census(cpu, &self.machine);
        let sizes = (census.leaves(Order::PAGE), census.leaves(HUGE));
        assert!(sizes == (0, 1), "R11: a block that is one leaf of the host table is mapped by leaves {sizes:?}");
        self.machine.check(cpu, self.memory.space());
        self.memory.destroy(cpu, &self.machine);
        if let Some(seen) = self.machine.violations().first() {
            panic!("{seen}");
        }
    }
}

impl World for Moved {
    fn domain(&self) -> &Domain {
        self.machine.epoch()
    }

    fn end(self, cpu: &Cpu) {
        let Space { host, stage2, .. } = &**self.memory.space();
        let truth = match host.peek(&self.machine, &self.machine.epoch().enter(cpu), Hvn(self.base.0 + 1)) {
            Peek::Page(page) => page.pfn,
            other => panic!("the page has gone: {other:?}"),
        };
        if let Pte::Leaf(leaf) = Stage2::<FakeRadix>::lookup(stage2, cpu, &self.machine, Gfn(0)) {
            assert!(leaf.pfn == truth, "G2: a window shows what it showed before it was moved");
        }
        self.memory.destroy(cpu, &self.machine);
        if let Some(seen) = self.machine.violations().first() {
            panic!("{seen}");
        }
    }
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&COPY, &COPY_TWICE, &COPY_TORN, &WINDOW, &COUNT, &MAKE_WAY];

static COPY: Scenario<Copied> = Scenario {
    about: About {
        name: "commit-bracket",
        rules: "R5,R6,R7",
        race: "a copy of the truth, made in a commit section, against a bracket that changes the truth",
        preemptions: 3,
    },
    world: uncopied,
    steps: &[change, copy],
};

static COPY_TWICE: Scenario<Copied> = Scenario {
    about: About {
        name: "commit-brackets-in-turn",
        rules: "R6,R7",
        race: "the same, and another bracket elsewhere begins as soon as the first has ended",
        preemptions: 3,
    },
    world: uncopied,
    steps: &[change_both, copy],
};

static COPY_TORN: Scenario<Copied> = Scenario {
    about: About {
        name: "commit-brackets-at-once",
        rules: "R6,R7",
        race: "the same, and another CPU's bracket elsewhere: the range may be read torn",
        preemptions: 2,
    },
    world: uncopied,
    steps: &[change, copy, change_elsewhere],
};

static WINDOW: Scenario<Moved> = Scenario {
    about: About {
        name: "fault-window-moved",
        rules: "R5,R17",
        race: "a fault against its window being moved to another page",
        preemptions: 2,
    },
    world: unmoved,
    steps: &[move_window, touch],
};

static COUNT: Scenario<Moved> = Scenario {
    about: About {
        name: "census-window-closed",
        rules: "R2,R20",
        race: "a count of translations against their tables being unlinked and freed",
        preemptions: 3,
    },
    world: shown,
    steps: &[close_window, count],
};

static MAKE_WAY: Scenario<Grown> = Scenario {
    about: About {
        name: "table-makes-way",
        rules: "R10,R11",
        race: "two faults in one block, each to replace an empty table of stage 2 by a large leaf",
        preemptions: 1,
    },
    world: grown,
    steps: &[store_first, store_second],
};
