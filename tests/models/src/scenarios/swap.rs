//! Pages go to a store and come back while others use them.
//!
//! ```text
//!   CPU 1  the hypervisor writes, or reads, for     CPU 0  reclaim: every page that is not used goes to the store
//!          the guest; the guest stores                     take a frame, zero it, write a mark
//!          discard; collapse                               swap-in
//! ```
//!
//! What was stored last is found again, in memory or from the store (G2); a frame that went is nobody's (G1); the store has
//! nothing in the end, and was asked for nothing that it did not have (R24).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backend_fake::FakeRadix;
use hv_core::addr::{Gfn, GfnRange, Gpa, Order, PAGE_SIZE};
use hv_core::epoch::{Cpu, Domain};
use hv_core::host::{HUGE, HugePolicy, ScanCursor};
use hv_core::machine::Machine;
use hv_core::mmu::MemoryConfig;

use super::vm::{Vm, ram};
use super::words::Words;
use crate::scenario::{About, Model, Scenario, World, as_cpu};

/// Frames for both trees, the pages, a block to copy them to, heirs and the reserve.
const FRAMES: usize = 14 + 2 * HUGE.pages() as usize;
const PAGE: Gpa = Gpa(0);
/// For a page of which either order of events is right.
const ANY: u64 = u64::MAX;

/// A VM, its store, and what must be found in its first page. Book-keeping that no checker sees.
pub struct Swapping {
    vm: Vm,
    store: Arc<Words>,
    holds: AtomicU64,
}

impl World for Swapping {
    fn domain(&self) -> &Domain {
        self.vm.domain()
    }

    fn end(self, cpu: &Cpu) {
        let Self { vm, store, holds } = self;
        let (holds, there) = (holds.into_inner(), vm.read(cpu, PAGE));
        assert!(holds == ANY || there == holds, "G2: a store was lost: {there} is there, not {holds}");
        let stats = vm.memory.stats();
        assert_eq!(stats.swapped, store.kept() as u64, "R24: the store has other pages than the table says");
        vm.end(cpu);
        assert_eq!(store.kept(), 0, "R24: the store has what nobody can ask for");
    }
}

impl Swapping {
    /// So many pages of RAM, each with a 1 in it, all of which the hypervisor wrote.
    fn new(huge: HugePolicy, before: impl FnOnce(&Vm, &Cpu)) -> Self {
        let store = Arc::new(Words::default());
        let config = MemoryConfig::<FakeRadix> { huge, ..ram(HUGE.pages()) }.swap(store.clone());
        let vm = Vm::with(FRAMES, config, |vm, cpu| {
            // From behind, so that the frames do not follow each other.
            (0..HUGE.pages()).rev().for_each(|n| vm.write(cpu, Gpa(n * PAGE_SIZE as u64), 1));
            before(vm, cpu);
        });
        Self { vm, store, holds: AtomicU64::new(1) }
    }
}

fn small() -> Swapping {
    Swapping::new(HugePolicy::Never, |_, _| {})
}

/// The pages are in the store.
fn out() -> Swapping {
    let world = small();
    as_cpu(world.domain(), 1, |cpu| reclaim(&world, cpu));
    assert_eq!(world.store.kept() as u64, HUGE.pages(), "P8: nothing is in the way");
    world
}

/// The pages are to be mapped huge from now on.
fn advised() -> Swapping {
    Swapping::new(HugePolicy::Advise, |vm, cpu| vm.memory.advise(cpu, &vm.machine, block()))
}

/// All of the memory is one huge leaf, and no frame is free.
fn nothing_free() -> Swapping {
    Swapping::new(HugePolicy::Always, |_, _| {})
}

fn block() -> GfnRange {
    GfnRange::new(Gfn(0), HUGE.pages()).expect("a block")
}

fn reclaim(w: &Swapping, cpu: &Cpu) {
    w.vm.memory.reclaim(cpu, &w.vm.machine, HUGE.pages());
}

fn reclaim_inherit(w: &Swapping, cpu: &Cpu) {
    reclaim(w, cpu);
    w.vm.inherit(cpu);
}

/// Reclaims where nothing is free: others hold all of it meanwhile.
fn reclaim_starved(w: &Swapping, cpu: &Cpu) {
    let frames = w.vm.machine.frames();
    let held: Vec<_> = std::iter::from_fn(|| frames.alloc(cpu, Order::PAGE)).collect();
    let done = w.vm.memory.reclaim(cpu, &w.vm.machine, 1);
    assert!(done.freed > 0, "P8: nothing could be freed, for want of a frame to free it with");
    held.into_iter().for_each(|frame| frames.free(cpu, frame));
}

fn write(w: &Swapping, cpu: &Cpu) {
    w.vm.write(cpu, PAGE, 2);
    w.holds.store(2, Ordering::Relaxed);
}

/// Writes if there is a frame for it.
fn write_starved(w: &Swapping, cpu: &Cpu) {
    if w.vm.memory.write(cpu, &w.vm.machine, PAGE, &2_u64.to_le_bytes()).is_ok() {
        w.holds.store(2, Ordering::Relaxed);
    }
}

fn store(w: &Swapping, cpu: &Cpu) {
    if w.vm.store(cpu, PAGE, 2) {
        w.holds.store(2, Ordering::Relaxed);
    }
}

fn read(w: &Swapping, cpu: &Cpu) {
    assert_eq!(w.vm.read(cpu, PAGE), 1, "G2: a page came back as another");
}

fn read_any(w: &Swapping, cpu: &Cpu) {
    let there = w.vm.read(cpu, PAGE);
    assert!(there <= 1, "G2: a page came back as another");
}

/// The page is discarded, and comes to life anew.
fn discard(w: &Swapping, cpu: &Cpu) {
    w.vm.memory.discard(cpu, &w.vm.machine, GfnRange::new(PAGE.page(), 1).expect("a page"));
    assert_eq!(w.vm.read(cpu, PAGE), 0, "R8: a page came back after it had been discarded");
    w.holds.store(0, Ordering::Relaxed);
}

/// The whole table goes, with what is in it.
fn discard_all(w: &Swapping, cpu: &Cpu) {
    w.vm.memory.discard(cpu, &w.vm.machine, block());
    assert_eq!(w.vm.read(cpu, PAGE), 0, "R8: a page came back after it had been discarded");
    w.holds.store(0, Ordering::Relaxed);
}

fn collapse(w: &Swapping, cpu: &Cpu) {
    w.vm.memory.scan(cpu, &w.vm.machine, &mut ScanCursor::default());
}

/// For the list of all.
pub static ALL: &[&dyn Model] =
    &[&OUT_WRITE, &OUT_STORE, &OUT_COLLAPSE, &IN_TWICE, &IN_DISCARD, &IN_DISCARD_TABLE, &STARVED];

static OUT_WRITE: Scenario<Swapping> = Scenario {
    about: About {
        name: "swap-out-write",
        rules: "R2,R4,R24",
        race: "a page goes to the store while the hypervisor writes to it",
        preemptions: 2,
    },
    world: small,
    steps: &[reclaim_inherit, write],
};

static OUT_STORE: Scenario<Swapping> = Scenario {
    about: About {
        name: "swap-out-store",
        rules: "R6,R8,R9",
        race: "a page goes to the store while the guest faults on it and stores",
        preemptions: 2,
    },
    world: small,
    steps: &[reclaim_inherit, store],
};

static OUT_COLLAPSE: Scenario<Swapping> = Scenario {
    about: About {
        name: "swap-out-collapse",
        rules: "R3,R21,R24",
        race: "pages go to the store while they are put together to a block",
        preemptions: 1,
    },
    world: advised,
    steps: &[reclaim, collapse],
};

static IN_TWICE: Scenario<Swapping> = Scenario {
    about: About { name: "swap-in-twice", rules: "R4,R19,R24", race: "two CPUs bring one page back", preemptions: 3 },
    world: out,
    steps: &[read, read],
};

static IN_DISCARD: Scenario<Swapping> = Scenario {
    about: About {
        name: "swap-in-discard",
        rules: "R4,R8,R24",
        race: "a page is discarded while another CPU brings it back",
        preemptions: 2,
    },
    world: out,
    steps: &[discard, read_any],
};

static IN_DISCARD_TABLE: Scenario<Swapping> = Scenario {
    about: About {
        name: "swap-in-discard-table",
        rules: "R8,R20,R24",
        race: "a table is taken away while another CPU brings one of its pages back",
        preemptions: 2,
    },
    world: out,
    steps: &[discard_all, read_any],
};

static STARVED: Scenario<Swapping> = Scenario {
    about: About {
        name: "swap-out-starved",
        rules: "R3,R24",
        race: "a huge leaf is split and its pages go to the store with no frame free, while the hypervisor writes",
        preemptions: 2,
    },
    world: nothing_free,
    steps: &[reclaim_starved, write_starved],
};
