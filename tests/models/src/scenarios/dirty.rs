//! Stores against the dirty log: a start, a harvest, a stop, a translation's removal.
//!
//! ```text
//!   CPU 1  the guest stores, or the hypervisor for it      CPU 0  start, and copy the memory
//!                                                                 harvest, and copy what it tells of
//!                                                                 a bracket that changes nothing
//!                                                                 stop
//! ```
//!
//! At the end a last harvest is made. What it and the one before told of has been copied, and then the copy is the memory:
//! a store that is not in it was lost (G4). For tables of both kinds: hardware notes stores in them, or a store faults.

use std::sync::atomic::{AtomicU64, Ordering};

use backend_fake::{FakeMachine, FakeRadix, FakeStage2, FakeTrap};
use hv_core::addr::{GfnRange, Gpa, HvnRange, PAGE_SIZE};
use hv_core::epoch::{Cpu, Domain};
use hv_core::host::{HUGE, HugePolicy};
use hv_core::isa::Isa;
use hv_core::mmu::zap::invalidate;
use hv_core::mmu::{GfnCache, MemoryConfig, age};

use super::vm::{Vm, ram};
use crate::scenario::{About, Model, Scenario, World, as_cpu};

/// Frames for both trees, two blocks, the log's and the heirs'.
const FRAMES: usize = 16 + 2 * HUGE.pages() as usize;
/// The page that is stored to, and the last one of its block.
const FIRST: Gpa = Gpa(0);
const LAST: Gpa = Gpa((HUGE.pages() - 1) * PAGE_SIZE as u64);
const TARGETS: [Gpa; 2] = [FIRST, LAST];

/// A VM, a page that the hypervisor keeps in mind, and a copy of what was told. The copy is book-keeping that no checker
/// sees.
pub struct Logged<I: Isa> {
    /// Boxed: a checker's stacks are small.
    vm: Box<Vm<I>>,
    cache: GfnCache<I>,
    copy: [AtomicU64; 2],
}

impl<I> Logged<I>
where
    I: Isa<Machine = FakeMachine>,
    I::Stage2: FakeStage2<Claim = I::Claim>,
{
    /// A VM both of whose pages are there and have been stored to.
    fn new(huge: HugePolicy) -> Self {
        let config = MemoryConfig { huge, ..ram(2 * HUGE.pages()) };
        let stored = |vm: &Vm<I>, cpu: &Cpu| TARGETS.map(|at| assert!(vm.store(cpu, at, 1)));
        let vm = Box::new(Vm::with(FRAMES, config, stored));
        let cache = GfnCache::new(&vm.memory, FIRST.page()).expect("memory for a cache");
        Self { vm, cache, copy: [const { AtomicU64::new(1) }; 2] }
    }

    /// The same with the log on. Nothing was stored since.
    fn started(huge: HugePolicy) -> Self {
        let w = Self::new(huge);
        as_cpu(w.vm.domain(), 1, |cpu| w.start(cpu));
        w
    }

    /// The same with pages that were stored to and harvested since: what they are mapped with is made for the log. The other
    /// one was stored to again, so that a harvest has something to do.
    fn harvested(huge: HugePolicy) -> Self {
        let w = Self::started(huge);
        as_cpu(w.vm.domain(), 1, |cpu| {
            assert!(w.vm.store(cpu, FIRST, 1), "nobody is in the way");
            w.harvest(cpu);
            w.vm.write(cpu, LAST, 1);
        });
        w
    }

    fn start(&self, cpu: &Cpu) {
        self.vm.memory.log_start(cpu, &self.vm.machine).expect("memory for a log");
        TARGETS.iter().for_each(|at| self.copy(cpu, *at));
    }

    fn harvest(&self, cpu: &Cpu) {
        self.vm.memory.log_harvest(cpu, &self.vm.machine, &mut |pages: GfnRange| {
            TARGETS.iter().filter(|at| pages.contains(at.page())).for_each(|at| self.copy(cpu, *at));
        });
    }

    fn stop(&self, cpu: &Cpu) {
        self.vm.memory.log_stop(cpu, &self.vm.machine);
    }

    fn bracket(&self, cpu: &Cpu) {
        let (first, _) = self.vm.behind(cpu, FIRST);
        let pages = HvnRange::new(first, 2 * HUGE.pages()).expect("some pages");
        invalidate(cpu, &self.vm.machine, self.vm.memory.space(), pages, |_| {});
    }

    /// A bracket and a harvest: what the one took note of the other tells.
    fn bracket_and_harvest(&self, cpu: &Cpu) {
        self.bracket(cpu);
        self.harvest(cpu);
    }

    /// A look at what was used, which weakens the same leaves.
    fn age_and_harvest(&self, cpu: &Cpu) {
        let (first, _) = self.vm.behind(cpu, FIRST);
        let pages = HvnRange::new(first, HUGE.pages()).expect("some pages");
        age(cpu, &self.vm.machine, self.vm.memory.space(), pages, &mut |_, _| {});
        self.harvest(cpu);
    }

    fn copy(&self, cpu: &Cpu, at: Gpa) {
        let place = TARGETS.iter().position(|target| *target == at).expect("one of the two");
        self.copy[place].store(self.vm.read(cpu, at), Ordering::Relaxed);
    }

    /// The second store goes through what the first has left.
    fn guest(&self, cpu: &Cpu) {
        self.vm.store(cpu, FIRST, 2);
        self.vm.store(cpu, FIRST, 3);
    }

    /// Two pages of one block.
    fn guest_in_block(&self, cpu: &Cpu) {
        self.vm.store(cpu, FIRST, 2);
        self.vm.store(cpu, LAST, 3);
    }

    fn hypervisor(&self, cpu: &Cpu) {
        self.vm.write(cpu, FIRST, 2);
    }

    fn through_cache(&self, cpu: &Cpu) {
        let Vm { memory, machine, .. } = &*self.vm;
        if !self.cache.try_write(memory, cpu, machine, FIRST, &2_u64.to_le_bytes()) {
            self.hypervisor(cpu);
        }
    }

    fn guest_and_hypervisor(&self, cpu: &Cpu) {
        self.vm.store(cpu, FIRST, 2);
        self.vm.write(cpu, LAST, 3);
    }
}

impl<I> World for Logged<I>
where
    I: Isa<Machine = FakeMachine>,
    I::Stage2: FakeStage2<Claim = I::Claim>,
{
    fn domain(&self) -> &Domain {
        self.vm.domain()
    }

    fn end(self, cpu: &Cpu) {
        if self.vm.memory.space().dirty.active().is_some() {
            self.harvest(cpu);
            for (at, copy) in TARGETS.iter().zip(&self.copy) {
                let (now, told) = (self.vm.read(cpu, *at), copy.load(Ordering::Relaxed));
                assert!(now == told, "G4: {at:?} holds {now}, and the last harvest that told of it found {told}");
            }
        }
        drop(self.cache);
        self.vm.end(cpu);
    }
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&FAULT, &BITS, &AGED, &WRITE, &CACHE, &REMOVED, &START, &START_BITS, &STOP, &BLOCK];

static FAULT: Scenario<Logged<FakeTrap>> = Scenario {
    about: About {
        name: "dirty-fault-harvest",
        rules: "R6,R14,R16",
        race: "stores that fault for the log against a harvest",
        preemptions: 2,
    },
    world: || Logged::harvested(HugePolicy::Never),
    steps: &[Logged::harvest, Logged::guest],
};

static BITS: Scenario<Logged<FakeRadix>> = Scenario {
    about: About {
        name: "dirty-bits-harvest",
        rules: "R4,R9,R14",
        race: "stores that hardware notes against a harvest",
        preemptions: 2,
    },
    world: || Logged::harvested(HugePolicy::Never),
    steps: &[Logged::harvest, Logged::guest],
};

static AGED: Scenario<Logged<FakeRadix>> = Scenario {
    about: About {
        name: "dirty-bits-aged",
        rules: "R4,R14",
        race: "stores that hardware notes against reference bits being cleared in the same entries",
        preemptions: 2,
    },
    world: || Logged::harvested(HugePolicy::Never),
    steps: &[Logged::age_and_harvest, Logged::guest],
};

static WRITE: Scenario<Logged<FakeTrap>> = Scenario {
    about: About {
        name: "dirty-write-harvest",
        rules: "R16",
        race: "a store by the hypervisor against a harvest",
        preemptions: 2,
    },
    world: || Logged::harvested(HugePolicy::Never),
    steps: &[Logged::harvest, Logged::hypervisor],
};

static CACHE: Scenario<Logged<FakeTrap>> = Scenario {
    about: About {
        name: "dirty-cache-harvest",
        rules: "R16,R23",
        race: "a store through a frame that is kept in mind against a harvest",
        preemptions: 2,
    },
    world: || Logged::harvested(HugePolicy::Never),
    steps: &[Logged::harvest, Logged::through_cache],
};

static REMOVED: Scenario<Logged<FakeRadix>> = Scenario {
    about: About {
        name: "dirty-bits-removed",
        rules: "R4,R14",
        race: "stores that hardware notes against their translation's removal",
        preemptions: 1,
    },
    world: || Logged::harvested(HugePolicy::Never),
    steps: &[Logged::bracket_and_harvest, Logged::guest],
};

static START: Scenario<Logged<FakeTrap>> = Scenario {
    about: About {
        name: "dirty-start-store",
        rules: "R6,R16,R19",
        race: "stores by guest and hypervisor against the log's start: what comes after it is told",
        preemptions: 2,
    },
    world: || Logged::new(HugePolicy::Never),
    steps: &[Logged::start, Logged::guest_and_hypervisor],
};

static START_BITS: Scenario<Logged<FakeRadix>> = Scenario {
    about: About {
        name: "dirty-start-store-bits",
        rules: "R6,R11,R16",
        race: "the same where hardware notes stores, and a large leaf is there before",
        preemptions: 2,
    },
    world: || Logged::new(HugePolicy::Always),
    steps: &[Logged::start, Logged::guest_in_block],
};

static STOP: Scenario<Logged<FakeTrap>> = Scenario {
    about: About {
        name: "dirty-stop-store",
        rules: "R11,R20",
        race: "stores against the log's end: nobody is at bits that are gone, and large leaves come back",
        preemptions: 1,
    },
    world: || Logged::harvested(HugePolicy::Always),
    steps: &[Logged::guest_and_hypervisor, Logged::stop],
};

static BLOCK: Scenario<Logged<FakeTrap>> = Scenario {
    about: About {
        name: "dirty-block-harvest",
        rules: "R10,R11,R16",
        race: "stores to two pages of a large block against a harvest",
        preemptions: 2,
    },
    world: || Logged::started(HugePolicy::Always),
    steps: &[Logged::harvest, Logged::guest_in_block],
};
