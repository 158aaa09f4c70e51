//! Large leaves that come and go under a guest.
//!
//! ```text
//!   CPU 1  the guest stores, or the hypervisor      CPU 0  split: one page of a huge block is taken away
//!          writes for it                                   collapse: small pages become a huge block
//! ```
//!
//! A store into a page that stays is found there afterwards, whatever became of the leaf around it (A11, C6). A page that
//! was taken has gone although the translation reached it as part of a larger one (C1), and at the end no translation is
//! larger than the host's leaf (G3).

use std::sync::atomic::{AtomicU64, Ordering};

use backend_fake::FakeRadix;
use hv_core::addr::{Gfn, GfnRange, Gpa, PAGE_SIZE};
use hv_core::epoch::{Cpu, Domain};
use hv_core::host::{HUGE, HugePolicy, ScanCursor};
use hv_core::mmu::MemoryConfig;

use super::vm::{Vm, ram};
use crate::scenario::{About, Model, Scenario, World};

/// Frames for both trees, a block of each kind, and the heir.
const FRAMES: usize = 8 + 4 * HUGE.pages() as usize;
/// The page that stays.
const STAYS: Gpa = Gpa(0);
/// The page of the same block that is taken.
const GOES: Gpa = Gpa((HUGE.pages() - 1) * PAGE_SIZE as u64);

/// A VM, and what must be found in the page that stays. Book-keeping that no checker sees.
pub struct Block {
    vm: Vm,
    holds: AtomicU64,
}

impl Block {
    /// The guest stores into the page that stays. Too many races, and it gives up.
    fn store(&self, cpu: &Cpu, value: u64) {
        if self.vm.store(cpu, STAYS, value) {
            self.holds.store(value, Ordering::Relaxed);
        }
    }
}

impl World for Block {
    fn domain(&self) -> &Domain {
        self.vm.domain()
    }

    fn end(self, cpu: &Cpu) {
        let holds = self.holds.load(Ordering::Relaxed);
        assert_eq!(self.vm.read(cpu, STAYS), holds, "G2: a store was lost");
        self.vm.end(cpu);
    }
}

fn huge(present: &[Gpa]) -> Block {
    let config = MemoryConfig { huge: HugePolicy::Always, ..ram(2 * HUGE.pages()) };
    block(config, present)
}

/// Small pages that are to be mapped huge from now on.
fn small(present: &[Gpa]) -> Block {
    block(MemoryConfig { huge: HugePolicy::Advise, ..ram(HUGE.pages()) }, present)
}

fn block(config: MemoryConfig<FakeRadix>, present: &[Gpa]) -> Block {
    let vm = Vm::with(FRAMES, config, |vm, cpu| {
        for at in present {
            assert!(vm.store(cpu, *at, 1), "nobody is in the way");
        }
        vm.memory.advise(cpu, &vm.machine, GfnRange::new(Gfn(0), HUGE.pages()).expect("a block"));
    });
    let holds = AtomicU64::new(u64::from(present.contains(&STAYS)));
    Block { vm, holds }
}

/// Enough pages to be worth a copy, the one that stays among them, in frames that do not follow each other.
fn scattered() -> Block {
    small(&(0..HUGE.pages()).rev().map(page).collect::<Vec<_>>())
}

fn page(n: u64) -> Gpa {
    Gpa(n * PAGE_SIZE as u64)
}

fn take(b: &Block, cpu: &Cpu) {
    b.vm.memory.discard(cpu, &b.vm.machine, GfnRange::new(GOES.page(), 1).expect("a page"));
    b.vm.inherit(cpu);
}

fn scan(b: &Block, cpu: &Cpu) {
    b.vm.memory.scan(cpu, &b.vm.machine, &mut ScanCursor::default());
}

fn store(b: &Block, cpu: &Cpu) {
    b.store(cpu, 2);
}

fn store_beside(b: &Block, cpu: &Cpu) {
    b.vm.store(cpu, GOES, 3);
}

fn reader(b: &Block, cpu: &Cpu) {
    let there = b.vm.read(cpu, STAYS);
    assert_eq!(there, 1, "G1: a read for a guest found what nobody wrote");
}

fn write(b: &Block, cpu: &Cpu) {
    b.vm.write(cpu, STAYS, 2);
    b.holds.store(2, Ordering::Relaxed);
}

/// For the list of all.
pub static ALL: &[&dyn Model] =
    &[&SPLIT_STORE, &SPLIT_WRITE, &SPLIT_TOUCH, &COLLAPSE_STORE, &COLLAPSE_WRITE, &COLLAPSE_READ, &COLLAPSE_TOUCH];

static SPLIT_STORE: Scenario<Block> = Scenario {
    about: About {
        name: "split-store",
        rules: "R2,R3,R8,R11,R12",
        race: "a store through a cached huge translation into the one of its pages that is taken away",
        preemptions: 2,
    },
    world: || huge(&[STAYS]),
    steps: &[take, store_beside],
};

static SPLIT_WRITE: Scenario<Block> = Scenario {
    about: About {
        name: "split-write",
        rules: "R3,R4,R19",
        race: "the hypervisor's write into a huge block that is being split",
        preemptions: 2,
    },
    world: || huge(&[STAYS]),
    steps: &[take, write],
};

static SPLIT_TOUCH: Scenario<Block> = Scenario {
    about: About {
        name: "split-first-touch",
        rules: "R6,R7,R11",
        race: "a first touch that brings a huge block against one of its pages being taken away",
        preemptions: 2,
    },
    world: || huge(&[]),
    steps: &[take, store],
};

static COLLAPSE_STORE: Scenario<Block> = Scenario {
    about: About {
        name: "collapse-store",
        rules: "R2,R3,R6,R8",
        race: "a store through a cached translation against its page being copied to a huge block",
        preemptions: 2,
    },
    world: scattered,
    steps: &[scan, store],
};

static COLLAPSE_WRITE: Scenario<Block> = Scenario {
    about: About {
        name: "collapse-write",
        rules: "R2,R3,R20",
        race: "the hypervisor's write against its page being copied to a huge block",
        preemptions: 1,
    },
    world: scattered,
    steps: &[scan, write],
};

static COLLAPSE_READ: Scenario<Block> = Scenario {
    about: About {
        name: "collapse-read",
        rules: "R1,R2,R3,R20",
        race: "a walk of the host table against the table being replaced by a huge leaf and freed",
        preemptions: 2,
    },
    world: scattered,
    steps: &[scan, reader],
};

static COLLAPSE_TOUCH: Scenario<Block> = Scenario {
    about: About {
        name: "collapse-first-touch",
        rules: "R3,R4,R24",
        race: "a first touch of a page against the rest of its block being copied to a huge one",
        preemptions: 2,
    },
    world: || small(&(1..=HUGE.pages() / 2).map(page).collect::<Vec<_>>()),
    steps: &[scan, store],
};
