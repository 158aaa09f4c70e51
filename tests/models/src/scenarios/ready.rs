//! Who may run on what is built once, and who takes it apart.
//!
//! ```text
//!   CPU 1  run: count up, state Ready? use it; leave        CPU 0  drain: Draining, nobody inside? take it apart
//!   CPU 1  build; ready, or fail                            CPU 0  build, or drain, or run
//! ```
//!
//! The thing is a word: absent, built, or gone. It is written plainly (relaxed), so that only the protocol's own ordering
//! makes it visible (A6). Whatever the order: who holds a permit finds it built (R19) and it stays while they look (R20,
//! A7); what was built and drained is taken apart exactly once; what failed leaves nothing.

use std::sync::Arc;

use hv_core::epoch::{Cpu, Domain};
use hv_core::mmu::ready::{Drained, Left, Permit, Readiness, State};
use hv_core::sync::{AtomicU64, Ordering, spin_loop};

use crate::scenario::{About, Model, Scenario, World};

const ABSENT: u64 = 0;
const BUILT: u64 = 1;
const GONE: u64 = 2;

/// What the CPUs share.
#[derive(Debug)]
pub struct Thing {
    domain: Domain,
    ready: Arc<Readiness>,
    thing: AtomicU64,
    /// How often it was built, and how often taken apart.
    built: AtomicU64,
    gone: AtomicU64,
}

/// How a build ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    /// Well.
    Succeeds,
    /// With an error, half way.
    Fails,
}

impl Thing {
    /// Nothing is there.
    fn empty() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            domain: Domain::new(),
            ready: Readiness::new(),
            thing: AtomicU64::new(ABSENT),
            built: zero(),
            gone: zero(),
        }
    }

    /// It is there, and nobody is inside.
    fn ready() -> Self {
        let world = Self::empty();
        world.build(Build::Succeeds);
        world
    }

    /// A CPU that is first, perhaps: builds, uses, leaves.
    fn build(&self, build: Build) {
        let Ok(building) = self.ready.build() else { return };
        assert!(self.thing.load(Ordering::Relaxed) != BUILT, "R19: two builders at once");
        self.thing.store(BUILT, Ordering::Relaxed);
        match build {
            Build::Succeeds => {
                self.built.fetch_add(1, Ordering::Relaxed);
                match building.ready() {
                    Ok(permit) => self.inside(permit),
                    Err(left) => self.left(left),
                }
            }
            Build::Fails => {
                // Undone as a whole (N5), then said.
                self.thing.store(ABSENT, Ordering::Relaxed);
                drop(building);
            }
        }
    }

    /// A CPU that runs on it, if it may.
    fn run(&self) {
        if let Ok(permit) = self.ready.run() {
            self.inside(permit);
        }
    }

    /// A CPU that ends it.
    fn drain(&self) {
        if let Some(drained) = self.ready.drain() {
            self.take_apart(drained);
        }
    }

    fn inside(&self, permit: Permit) {
        assert!(self.thing.load(Ordering::Relaxed) == BUILT, "R19: a permit for what is not built, or gone");
        spin_loop();
        assert!(self.thing.load(Ordering::Relaxed) == BUILT, "R20: taken apart with somebody inside");
        self.left(permit.leave());
    }

    fn left(&self, left: Left) {
        if let Left::Last(drained) = left {
            self.take_apart(drained);
        }
    }

    fn take_apart(&self, drained: Drained) {
        let there = self.thing.load(Ordering::Relaxed);
        if there == BUILT {
            self.thing.store(GONE, Ordering::Relaxed);
            self.gone.fetch_add(1, Ordering::Relaxed);
        }
        drop(drained);
    }
}

impl World for Thing {
    fn domain(&self) -> &Domain {
        &self.domain
    }

    /// It is there and ready, or neither.
    fn end(self, _cpu: &Cpu) {
        let (built, gone) = (self.built.load(Ordering::Relaxed), self.gone.load(Ordering::Relaxed));
        match self.ready.state() {
            State::Ready => assert!(built == gone + 1, "R20: ready, and taken apart"),
            State::Empty => {
                assert!(built == gone, "R20: drained, and not taken apart once for each time it was built")
            }
            other => panic!("R20: nobody is inside, and it stays {other:?}"),
        }
    }
}

fn run(w: &Thing, _cpu: &Cpu) {
    w.run();
}

fn drain(w: &Thing, _cpu: &Cpu) {
    w.drain();
}

fn build(w: &Thing, _cpu: &Cpu) {
    w.build(Build::Succeeds);
}

fn fail(w: &Thing, _cpu: &Cpu) {
    w.build(Build::Fails);
}

fn next_round(w: &Thing, _cpu: &Cpu) {
    w.drain();
    w.build(Build::Succeeds);
}

/// For the list of all.
pub static ALL: &[&dyn Model] =
    &[&RUN_DRAIN, &RUNS_DRAIN, &DRAINS_RUN, &BUILDERS, &RUN_BUILD, &FAILS, &BUILD_DRAIN, &FAIL_DRAIN, &ROUNDS];

static RUN_DRAIN: Scenario<Thing> = Scenario {
    about: About { name: "ready-run-drain", rules: "R20", race: "a run against a drain", preemptions: 5 },
    world: Thing::ready,
    steps: &[drain, run],
};

static RUNS_DRAIN: Scenario<Thing> = Scenario {
    about: About {
        name: "ready-runs-drain",
        rules: "R20",
        race: "two runs against a drain: one of three takes it apart",
        preemptions: 1,
    },
    world: Thing::ready,
    steps: &[drain, run, run],
};

static DRAINS_RUN: Scenario<Thing> = Scenario {
    about: About {
        name: "ready-drains-run",
        rules: "R20",
        race: "two drains and a run: one of three takes it apart",
        preemptions: 1,
    },
    world: Thing::ready,
    steps: &[drain, drain, run],
};

static BUILDERS: Scenario<Thing> = Scenario {
    about: About {
        name: "ready-two-builders",
        rules: "R19",
        race: "two first runs: one builds, and what it built is seen",
        preemptions: 5,
    },
    world: Thing::empty,
    steps: &[build, build],
};

static RUN_BUILD: Scenario<Thing> = Scenario {
    about: About {
        name: "ready-run-build",
        rules: "R19",
        race: "a run against the first run: not before all is there",
        preemptions: 5,
    },
    world: Thing::empty,
    steps: &[build, run],
};

static FAILS: Scenario<Thing> = Scenario {
    about: About {
        name: "ready-fails",
        rules: "R19",
        race: "a first run that fails against one that does not: nothing half built",
        preemptions: 5,
    },
    world: Thing::empty,
    steps: &[build, fail],
};

static BUILD_DRAIN: Scenario<Thing> = Scenario {
    about: About {
        name: "ready-build-drain",
        rules: "R20",
        race: "a drain against the builder: built is taken apart",
        preemptions: 5,
    },
    world: Thing::empty,
    steps: &[build, drain],
};

static FAIL_DRAIN: Scenario<Thing> = Scenario {
    about: About {
        name: "ready-fail-drain",
        rules: "R20",
        race: "a drain against a builder that fails: nothing to take apart",
        preemptions: 5,
    },
    world: Thing::empty,
    steps: &[fail, drain],
};

static ROUNDS: Scenario<Thing> = Scenario {
    about: About { name: "ready-rounds", rules: "R20", race: "a late leaver against the next round", preemptions: 1 },
    world: Thing::ready,
    steps: &[next_round, run, drain],
};
