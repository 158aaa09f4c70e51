//! Two VMs that share an object of one extent, whose team grows, is broken, or is swapped out.
//!
//! ```text
//!   CPU 1  a VM stores, faulting as it must      CPU 0  the other VM stores: the team becomes complete
//!          or a VM ends                                 punch hole: mark, invalidate, free
//!                                                       swap out: invalidate, (used meanwhile), mark, free
//! ```
//!
//! What one VM stored the other one reads. A frame that went is nobody's (G1), no translation is larger than its host leaf
//! (G3, A8), and what was stored is found again, in memory or in the store.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use backend_fake::{FakeMachine, FakeRadix};
use hv_core::addr::{Gpa, PAGE_SIZE};
use hv_core::epoch::{Cpu, Domain};
use hv_core::heap::Counted;
use hv_core::host::{Backing, HUGE, HugePolicy};
use hv_core::isa::VmTag;
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryConfig};
use hv_core::page::{Grow, Tmpfs};

use super::vm::{inherit, ram, read, store};
use super::words::Words;
use crate::scenario::{About, Model, Scenario, World, as_cpu};

/// Frames for four trees, the team and its heir.
const FRAMES: usize = 24 + 2 * HUGE.pages() as usize;
/// For a page of which either order of events is right.
const ANY: u64 = u64::MAX;
const FIRST: Gpa = Gpa(0);
const LAST: Gpa = Gpa((HUGE.pages() - 1) * PAGE_SIZE as u64);

/// A machine, an object, and VMs that show all of it; the first of them may end during the race.
pub struct Sharing {
    machine: FakeMachine,
    object: Counted<Tmpfs<FakeRadix>>,
    ending: Mutex<Option<GuestMemory<FakeRadix>>>,
    staying: GuestMemory<FakeRadix>,
    /// What the first and the last page must hold at the end.
    holds: [AtomicU64; 2],
    free: u64,
}

impl World for Sharing {
    fn domain(&self) -> &Domain {
        self.machine.epoch()
    }

    fn end(self, cpu: &Cpu) {
        let Self { machine, object, ending, staying, holds, free } = self;
        let ending = ending.into_inner().unwrap_or_else(PoisonError::into_inner);
        for memory in ending.iter().chain([&staying]) {
            machine.check(cpu, memory.space());
            for (at, holds) in [FIRST, LAST].into_iter().zip(&holds) {
                let holds = holds.load(Ordering::Relaxed);
                let there = read(&machine, memory, cpu, at);
                assert!(holds == ANY || there == holds, "G2: a store was lost: {at:?} holds {there}, not {holds}");
            }
        }
        ending.into_iter().chain([staying]).for_each(|memory| memory.destroy(cpu, &machine));
        Tmpfs::close(object, cpu, &machine).expect("R20: nobody has the object any more");
        if let Some(seen) = machine.violations().first() {
            panic!("{seen}");
        }
        assert_eq!(machine.frames().counts().free, free, "R24: frames were lost");
    }
}

impl Sharing {
    /// Two VMs, the pages `present` touched by the one that stays.
    fn new(present: impl Iterator<Item = u64>) -> Self {
        let machine = FakeMachine::new(FRAMES);
        let free = machine.frames().counts().free;
        let object = Tmpfs::with(HUGE.pages(), Grow::Teams, Some(Arc::new(Words::default()))).expect("an object");
        let [staying, ending] = [1, 2].map(|n| {
            let tag = VmTag(NonZeroU16::new(n).expect("tags begin at 1"));
            let backing = Backing::Shared { object: Counted::clone(&object), first: 0 };
            let config = MemoryConfig { backing, huge: HugePolicy::Always, ..ram(HUGE.pages()) };
            as_cpu(machine.epoch(), 1, |cpu| GuestMemory::new(cpu, &machine, tag, config)).expect("memory for a VM")
        });
        let holds = [0, 0].map(AtomicU64::new);
        let world = Self { machine, object, ending: Mutex::new(Some(ending)), staying, holds, free };
        as_cpu(world.domain(), 1, |cpu| present.for_each(|n| world.store(cpu, Gpa(n * PAGE_SIZE as u64), 1)));
        world
    }

    fn store(&self, cpu: &Cpu, at: Gpa, value: u64) {
        self.store_in(&self.staying, cpu, at, value);
    }

    fn store_in(&self, memory: &GuestMemory<FakeRadix>, cpu: &Cpu, at: Gpa, value: u64) {
        if store(&self.machine, memory, cpu, at, value) {
            match at {
                FIRST => self.holds[0].store(value, Ordering::Relaxed),
                LAST => self.holds[1].store(value, Ordering::Relaxed),
                _ => {}
            }
        }
    }

    /// The VM that ends, for as long as the race lasts.
    fn ending(&self) -> Option<GuestMemory<FakeRadix>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// All pages live but the first and the last.
fn growing() -> Sharing {
    Sharing::new(1..HUGE.pages() - 1)
}

fn complete() -> Sharing {
    Sharing::new(0..HUGE.pages())
}

/// The other VM has it mapped as well, and cached.
fn mapped_by_both() -> Sharing {
    let world = complete();
    as_cpu(world.domain(), 1, |cpu| other_stores_last(&world, cpu));
    world
}

fn store_first(w: &Sharing, cpu: &Cpu) {
    w.store(cpu, FIRST, 2);
}

/// The other VM stores into the last page.
fn other_stores_last(w: &Sharing, cpu: &Cpu) {
    if let Some(other) = w.ending() {
        w.store_in(&other, cpu, LAST, 3);
        *w.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(other);
    }
}

fn store_last(w: &Sharing, cpu: &Cpu) {
    store(&w.machine, &w.staying, cpu, LAST, 3);
}

fn punch_last(w: &Sharing, cpu: &Cpu) {
    w.holds[1].store(ANY, Ordering::Relaxed);
    w.object.punch(cpu, &w.machine, HUGE.pages() - 1, HUGE.pages());
    inherit(&w.machine, cpu);
}

fn swap_out(w: &Sharing, cpu: &Cpu) {
    w.object.swap_out(cpu, &w.machine, 0).expect("the object has a store");
    inherit(&w.machine, cpu);
}

/// The other VM ends while the object is at work on its mappers.
fn end_other(w: &Sharing, cpu: &Cpu) {
    if let Some(other) = w.ending() {
        other.destroy(cpu, &w.machine);
    }
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&GROW, &PUNCH, &SWAP, &END];

static GROW: Scenario<Sharing> = Scenario {
    about: About {
        name: "team-grow",
        rules: "R6,R11,R12,R24",
        race: "two VMs touch the last two pages that a team lacks",
        preemptions: 2,
    },
    world: growing,
    steps: &[other_stores_last, store_first],
};

static PUNCH: Scenario<Sharing> = Scenario {
    about: About {
        name: "team-punch",
        rules: "R8,R11,R12,R13",
        race: "a store through a huge translation of a team against a hole punched into it",
        preemptions: 2,
    },
    world: complete,
    steps: &[punch_last, store_last],
};

static SWAP: Scenario<Sharing> = Scenario {
    about: About {
        name: "team-swap",
        rules: "R8,R11,R13",
        race: "a store through a huge translation of a team against its being swapped out",
        preemptions: 1,
    },
    world: complete,
    steps: &[swap_out, store_first],
};

static END: Scenario<Sharing> = Scenario {
    about: About {
        name: "team-vm-ends",
        rules: "R18,R20,R24",
        race: "a VM's end against a hole punched into an object that it maps",
        preemptions: 2,
    },
    world: mapped_by_both,
    steps: &[punch_last, end_other],
};
