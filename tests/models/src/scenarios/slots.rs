//! Sets of slots that follow each other faster than a reader reads one.
//!
//! ```text
//!   CPU 1  walk: reads the set, word by word       CPU 0  replaces it; replaces it again, into the buffer that the first
//!                                                         replacement left
//! ```
//!
//! Whatever the order, what was read is one whole set (R17). Only the grace period between the two replacements sees to
//! it: a walk inside its guard is waited for.

use hv_core::addr::{Gfn, GfnRange, Hvn};
use hv_core::epoch::{Cpu, Domain};
use hv_core::memslot::{Memslots, Slot};
use hv_core::radix::format::Prot;

use crate::scenario::{About, Model, Scenario, World, as_cpu};

/// The sets that there are, one after the other.
const SETS: u64 = 3;

/// A VM's slots.
#[derive(Debug)]
struct Windows {
    domain: Domain,
    slots: Memslots,
}

/// Set `n`: one window, none of whose words another set has.
fn set(n: u64) -> Slot {
    let gfns = GfnRange::new(Gfn(n), 10 + n).expect("some pages");
    Slot::new(gfns, Hvn(100 * (n + 1)), Prot::all()).expect("a window")
}

fn first() -> Windows {
    let world = Windows { domain: Domain::new(), slots: Memslots::new() };
    as_cpu(&world.domain, 0, |cpu| replace(&world, cpu, 0));
    world
}

fn replace(w: &Windows, cpu: &Cpu, n: u64) {
    w.slots.lock(cpu).replace(&w.domain, &[set(n)]).expect("one slot is no overlap");
}

fn replace_twice(w: &Windows, cpu: &Cpu) {
    (1..SETS).for_each(|n| replace(w, cpu, n));
}

fn read(w: &Windows, cpu: &Cpu) {
    let seen = w.slots.all(&w.domain.enter(cpu));
    assert!((0..SETS).any(|n| seen == [set(n)]), "R17: a walk found slots of no set: {seen:?}");
}

impl World for Windows {
    fn domain(&self) -> &Domain {
        &self.domain
    }

    fn end(self, cpu: &Cpu) {
        assert!(self.slots.all(&self.domain.enter(cpu)) == [set(SETS - 1)], "R17: the last set is not the one in use");
    }
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&REPLACED];

static REPLACED: Scenario<Windows> = Scenario {
    about: About {
        name: "slots-replaced-twice",
        rules: "R17,R20",
        race: "a walk that reads a set of slots against two replacements of it",
        preemptions: 3,
    },
    world: first,
    steps: &[replace_twice, read],
};
