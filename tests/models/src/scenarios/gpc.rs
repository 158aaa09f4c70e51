//! A page that the hypervisor keeps in mind against its being taken away (R23).
//!
//! ```text
//!   CPU 1  store through the cache, twice: what the first one learnt      CPU 0  discard (early count, emptied, begin,
//!          the second one uses                                                   hole, free); the frame's heir marks it
//!   CPU 1  store through the cache, and no other way                      CPU 0  a bracket: while it is open nobody stores
//! ```
//!
//! Whatever the order, no store lands in the heir's frame (G1), and none while a bracket is open (R8).

use backend_fake::FakeRadix;
use hv_core::addr::{Gfn, GfnRange, Gpa, HvnRange};
use hv_core::epoch::{Cpu, Domain};
use hv_core::machine::Machine;
use hv_core::mmu::GfnCache;
use hv_core::mmu::zap::invalidate;
use hv_core::radix::format::Prot;

use super::vm::Vm;
use crate::scenario::{About, Model, Scenario, World, as_cpu};

const FRAMES: usize = 12;
/// The host table's reach under a model checker.
const PAGES: u64 = 4;
const PAGE: Gfn = Gfn(0);
const AT: Gpa = Gpa(0);

/// A VM with a page that is kept in mind.
#[derive(Debug)]
pub struct Kept {
    vm: Vm,
    cache: GfnCache<FakeRadix>,
}

/// The page is there; its frame is not known yet.
fn cold() -> Kept {
    let vm = Vm::new(FRAMES, PAGES, |vm, cpu| vm.store(cpu, AT, 1));
    let cache = GfnCache::new(&vm.memory, PAGE).expect("memory for a cache");
    Kept { vm, cache }
}

/// Its frame is known.
fn warm() -> Kept {
    let kept = cold();
    as_cpu(kept.vm.domain(), 1, |cpu| store(&kept, cpu));
    assert!(kept.cache.is_filled(), "R23: nothing keeps the frame from being known");
    kept
}

/// Through the cache, or the long way.
fn store_through(w: &Kept, cpu: &Cpu, cache: &GfnCache<FakeRadix>) {
    let Vm { memory, machine, .. } = &w.vm;
    if !cache.try_write(memory, cpu, machine, AT, &[1; 8]) {
        memory.write(cpu, machine, AT, &[1; 8]).expect("there is memory");
    }
}

fn store(w: &Kept, cpu: &Cpu) {
    store_through(w, cpu, &w.cache);
}

fn store_twice(w: &Kept, cpu: &Cpu) {
    store(w, cpu);
    store(w, cpu);
}

/// A cache that is made while the page goes.
fn keep_and_store(w: &Kept, cpu: &Cpu) {
    let cache = GfnCache::new(&w.vm.memory, PAGE).expect("memory for a cache");
    for _ in 0..2 {
        store_through(w, cpu, &cache);
    }
}

fn take(w: &Kept, cpu: &Cpu) {
    w.vm.memory.discard(cpu, &w.vm.machine, GfnRange::new(PAGE, 1).expect("a page"));
    w.vm.inherit(cpu);
}

/// Stores through the cache or not at all.
fn store_if_known(w: &Kept, cpu: &Cpu) {
    for value in [1, 2] {
        w.cache.with(cpu, &w.vm.machine, Prot::WRITE, |frame| w.vm.machine.write(frame, 0, &[value; 8]));
    }
}

/// While the bracket is open nothing stores to the page.
fn hold_still(w: &Kept, cpu: &Cpu) {
    let m = &w.vm.machine;
    let (page, frame) = w.vm.behind(cpu, AT);
    let page = HvnRange::new(page, 1).expect("a page");
    let look = || {
        let mut bytes = [0; 8];
        m.read(frame, 0, &mut bytes);
        bytes
    };
    invalidate(cpu, m, w.vm.memory.space(), page, |_| {
        let before = look();
        assert!(look() == before, "R8: a store landed while a bracket was open");
    });
}

impl World for Kept {
    fn domain(&self) -> &Domain {
        self.vm.domain()
    }

    fn end(self, cpu: &Cpu) {
        let mut kept = None;
        self.cache.with(cpu, &self.vm.machine, Prot::READ, |frame| kept = Some(frame));
        if let Some(frame) = kept {
            assert!(frame == self.vm.behind(cpu, AT).1, "G2: a cache names a frame that is not the page's");
        }
        drop(self.cache);
        self.vm.end(cpu);
    }
}

pub static ALL: &[&dyn Model] = &[&WARM, &COLD, &FIRST, &NEW, &STILL];

static WARM: Scenario<Kept> = Scenario {
    about: About {
        name: "gpc-unmap",
        rules: "R8,R23",
        race: "stores through a cached frame against its page being taken away",
        preemptions: 2,
    },
    world: warm,
    steps: &[take, store_twice],
};

static COLD: Scenario<Kept> = Scenario {
    about: About {
        name: "gpc-refresh-unmap",
        rules: "R5,R23",
        race: "a cache's refresh against its page being taken away",
        preemptions: 2,
    },
    world: cold,
    steps: &[take, store_twice],
};

static FIRST: Scenario<Kept> = Scenario {
    about: About {
        name: "gpc-refresh-interrupted",
        rules: "R19,R23",
        race: "a cache's refresh, begun before its page is taken away",
        preemptions: 1,
    },
    world: cold,
    steps: &[store, take],
};

static NEW: Scenario<Kept> = Scenario {
    about: About {
        name: "gpc-create-unmap",
        rules: "R19,R23",
        race: "a cache that is made and filled against its page being taken away",
        preemptions: 2,
    },
    world: cold,
    steps: &[take, keep_and_store],
};

static STILL: Scenario<Kept> = Scenario {
    about: About {
        name: "gpc-bracket",
        rules: "R8,R23",
        race: "stores through a cached frame against a bracket: none while it is open",
        preemptions: 3,
    },
    world: warm,
    steps: &[hold_still, store_if_known],
};
