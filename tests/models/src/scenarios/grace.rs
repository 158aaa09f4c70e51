//! Grace periods alone: a reader inside a walk guard, against a page being unlinked and given another use.
//!
//! ```text
//!   CPU 1  enter; read the link; read what it leads to; leave      CPU 0  unlink; grace period; another use
//! ```
//!
//! Everything but the domain's own ordering is relaxed, so nothing else can be what keeps the two apart (R2, F10).

use hv_core::epoch::{Cpu, Domain};
use hv_core::sync::{AtomicU64, Ordering};

use crate::scenario::{About, Model, Scenario, World, as_cpu};

/// The link leads nowhere.
const NOWHERE: u64 = 0;
/// What a page holds while its first use lasts.
const FIRST_USE: u64 = 7;
const OTHER_USE: u64 = 8;

/// A link to a page, and the page.
#[derive(Debug)]
pub struct Linked {
    domain: Domain,
    link: AtomicU64,
    page: AtomicU64,
    /// Where the link leads next; CPU 2 takes this one away.
    other: AtomicU64,
}

impl World for Linked {
    fn domain(&self) -> &Domain {
        &self.domain
    }

    fn end(self, _cpu: &Cpu) {}
}

fn world() -> Linked {
    let domain = Domain::new();
    // Members from the beginning, as CPUs are that came up long ago; they come and go all the same.
    (0..3).for_each(|n| as_cpu(&domain, n, |_| ()));
    let word = AtomicU64::new;
    Linked { domain, link: word(1), page: word(FIRST_USE), other: word(1) }
}

fn look(w: &Linked, cpu: &Cpu, link: &AtomicU64) {
    let _walk = w.domain.enter(cpu);
    if link.load(Ordering::Relaxed) != NOWHERE {
        assert_eq!(w.page.load(Ordering::Relaxed), FIRST_USE, "R2: a walk met a page that had found another use");
    }
}

fn read(w: &Linked, cpu: &Cpu) {
    look(w, cpu, &w.link);
}

/// A walk inside a walk, and one after it.
fn read_twice(w: &Linked, cpu: &Cpu) {
    {
        let _outer = w.domain.enter(cpu);
        look(w, cpu, &w.link);
        look(w, cpu, &w.link);
    }
    look(w, cpu, &w.link);
}

fn unlink(w: &Linked, cpu: &Cpu) {
    w.link.store(NOWHERE, Ordering::Relaxed);
    let _grace = w.domain.synchronize(cpu);
    w.page.store(OTHER_USE, Ordering::Relaxed);
}

/// Takes a stamp and looks later whether it has passed, as who has other work does.
fn unlink_and_ask(w: &Linked, _cpu: &Cpu) {
    w.link.store(NOWHERE, Ordering::Relaxed);
    let stamp = w.domain.stamp();
    for _ in 0..2 {
        if w.domain.passed(stamp) {
            w.page.store(OTHER_USE, Ordering::Relaxed);
            return;
        }
    }
}

/// Another grace period at the same time, for something else.
fn unlink_other(w: &Linked, cpu: &Cpu) {
    w.other.store(NOWHERE, Ordering::Relaxed);
    let _grace = w.domain.synchronize(cpu);
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&WALK, &STAMP, &TWO];

static WALK: Scenario<Linked> = Scenario {
    about: About {
        name: "grace-walk",
        rules: "R2,R20",
        race: "a walk, a walk inside it and one after it, against an unlinking that waits",
        preemptions: 4,
    },
    world,
    steps: &[unlink, read_twice],
};

static STAMP: Scenario<Linked> = Scenario {
    about: About {
        name: "grace-stamp",
        rules: "R2,R20",
        race: "two walks against an unlinking that asks whether its stamp has passed",
        preemptions: 3,
    },
    world,
    steps: &[unlink_and_ask, read, read],
};

static TWO: Scenario<Linked> = Scenario {
    about: About {
        name: "grace-two",
        rules: "R2,R20",
        race: "a walk against two grace periods at once",
        preemptions: 2,
    },
    world,
    steps: &[unlink, read, unlink_other],
};
