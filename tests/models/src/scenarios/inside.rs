//! A flush against CPUs on their way into a guest, as x86 does it (`backend-x86/src/machine/inside.rs`).
//!
//! ```text
//!   CPU 1, 2  entering: what is cached dropped if stale; the guest walks the table or uses what is cached; kicked? leave
//!   CPU 0     the table's entry changed; flush: kick who is inside, wait; the old frame given to an heir
//! ```
//!
//! An entry of the table is a frame's number. Nobody uses a frame that was given away (R9, G1); what a guest stored into it
//! before that, whoever gave it away has found there (R8); and a flush comes to an end although a guest comes back at once.

use std::num::NonZeroU16;

use backend_x86::machine::inside::{Cached, Inside, Seen};
use hv_core::epoch::{Cpu, Domain};
use hv_core::isa::VmTag;
use hv_core::machine::CpuId;
use hv_core::sync::{AtomicU64, Mutex, Ordering, spin_loop};

use crate::scenario::{About, Model, Scenario, World, as_cpu};

/// The VM, and another one.
const TAG: VmTag = VmTag(NonZeroU16::MIN);
const OTHER: VmTag = VmTag(NonZeroU16::MIN.saturating_add(1));
/// CPUs of the machine.
const CPUS: usize = 3;
/// Frames: the first one, and what each change of the table puts in its place.
const FRAMES: usize = 3;
/// Nothing is cached.
const NOTHING: u64 = u64::MAX;
/// What a guest stores, and what an heir does.
const GUEST: u64 = 1;
const HEIR: u64 = 2;

/// How long a guest stays inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    /// For one store.
    Store,
    /// Until it is kicked, or every flush is over.
    Kicked,
}

/// What the CPUs share.
#[derive(Debug)]
pub struct Guest {
    domain: Domain,
    inside: Inside,
    /// The one entry: the frame behind the one page.
    entry: AtomicU64,
    frames: [AtomicU64; FRAMES],
    /// What each CPU has cached of the entry.
    cached: [AtomicU64; CPUS],
    /// How often each CPU was kicked, and how many of these interrupts it has taken.
    kicks: [AtomicU64; CPUS],
    taken: [AtomicU64; CPUS],
    /// What the vCPU last saw; the CPU that runs it has the lock.
    vcpu: Mutex<Seen>,
    /// For the changes of the table, each with its flush.
    changes: Mutex<()>,
    /// Changes that are to come or under way.
    changing: AtomicU64,
    /// The last frame into which the vCPU stored.
    stored: AtomicU64,
    /// What was in each frame when it was given away.
    found: [AtomicU64; FRAMES],
}

impl Guest {
    /// The vCPU has run on CPU 1 and has the entry cached there; then there are to be so many changes.
    fn new(changes: u64) -> Self {
        let guest = Self {
            domain: Domain::new(),
            inside: Inside::new(CPUS).expect("there is a heap"),
            entry: AtomicU64::new(0),
            frames: [0; FRAMES].map(AtomicU64::new),
            cached: [NOTHING; CPUS].map(AtomicU64::new),
            kicks: [0; CPUS].map(AtomicU64::new),
            taken: [0; CPUS].map(AtomicU64::new),
            vcpu: Mutex::new(Seen::default()),
            changes: Mutex::new(()),
            changing: AtomicU64::new(0),
            stored: AtomicU64::new(NOTHING),
            found: [0; FRAMES].map(AtomicU64::new),
        };
        as_cpu(&guest.domain, 1, |cpu| guest.run(cpu, Stay::Store));
        guest.changing.store(changes, Ordering::Relaxed);
        guest
    }

    /// Runs the vCPU on the calling CPU.
    fn run(&self, cpu: &Cpu, stay: Stay) {
        let id = cpu.id();
        let here = usize::from(id.0);
        let mut seen = self.vcpu.lock();
        if self.inside.entering(id, TAG, &mut seen) == Cached::Stale {
            self.cached[here].store(NOTHING, Ordering::Relaxed);
        }
        // The processor's walk. It is ordered by nothing but what `entering` does.
        if self.cached[here].load(Ordering::Relaxed) == NOTHING {
            self.cached[here].store(self.entry.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let frame = self.cached[here].load(Ordering::Relaxed);
        let word = &self.frames[frame as usize];
        assert!(word.load(Ordering::Relaxed) != HEIR, "G1: a translation was used after its flush");
        word.store(GUEST, Ordering::Relaxed);
        self.stored.store(frame, Ordering::Relaxed);
        if stay == Stay::Kicked {
            let taken = self.taken[here].load(Ordering::Relaxed);
            while self.kicks[here].load(Ordering::Relaxed) == taken && self.changing.load(Ordering::Relaxed) != 0 {
                spin_loop();
            }
            self.taken[here].store(self.kicks[here].load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.inside.left(id);
    }

    /// Puts another frame behind the page, and gives the old one away.
    fn change(&self) {
        let turn = self.changes.lock();
        let old = self.entry.load(Ordering::Relaxed);
        self.entry.store(old + 1, Ordering::Relaxed);
        self.inside.flush(TAG, |CpuId(cpu)| {
            self.kicks[usize::from(cpu)].fetch_add(1, Ordering::Relaxed);
        });
        let word = &self.frames[old as usize];
        self.found[old as usize].store(word.load(Ordering::Relaxed), Ordering::Relaxed);
        word.store(HEIR, Ordering::Relaxed);
        self.changing.fetch_sub(1, Ordering::Relaxed);
        drop(turn);
    }
}

impl World for Guest {
    fn domain(&self) -> &Domain {
        &self.domain
    }

    fn end(self, _cpu: &Cpu) {
        let [entry, stored] = [&self.entry, &self.stored].map(|word| word.load(Ordering::Relaxed));
        for gone in 0..entry as usize {
            assert!(self.frames[gone].load(Ordering::Relaxed) == HEIR, "G1: a store landed in frame {gone}, an heir's");
        }
        let found = self.found[stored as usize].load(Ordering::Relaxed);
        assert!(stored == entry || found == GUEST, "R8: what a guest stored before it left was not found");
    }
}

fn unchanged() -> Guest {
    Guest::new(1)
}

fn change(w: &Guest, _cpu: &Cpu) {
    w.change();
}

fn enter(w: &Guest, cpu: &Cpu) {
    w.run(cpu, Stay::Store);
}

fn enter_again(w: &Guest, cpu: &Cpu) {
    w.run(cpu, Stay::Store);
    w.run(cpu, Stay::Store);
}

/// Then another VM runs there, which touches nothing.
fn enter_other(w: &Guest, cpu: &Cpu) {
    w.run(cpu, Stay::Store);
    let _nothing_cached = w.inside.entering(cpu.id(), OTHER, &mut Seen::default());
    w.inside.left(cpu.id());
}

fn stay(w: &Guest, cpu: &Cpu) {
    w.run(cpu, Stay::Kicked);
}

/// It comes back at once, and stays until nobody changes anything any more.
fn stay_again(w: &Guest, cpu: &Cpu) {
    w.run(cpu, Stay::Kicked);
    w.run(cpu, Stay::Kicked);
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&ENTRY, &OTHER_VM, &KICK, &BACK, &MOVES, &TWO];

static ENTRY: Scenario<Guest> = Scenario {
    about: About { name: "inside-entry", rules: "R8,R9", race: "a flush against a guest's entries", preemptions: 4 },
    world: unchanged,
    steps: &[change, enter_again],
};

static OTHER_VM: Scenario<Guest> = Scenario {
    about: About {
        name: "inside-other",
        rules: "R8,R9",
        race: "a flush of a VM after which another one was entered",
        preemptions: 4,
    },
    world: unchanged,
    steps: &[change, enter_other],
};

static KICK: Scenario<Guest> = Scenario {
    about: About {
        name: "inside-kick",
        rules: "R9",
        race: "a flush against a guest that only a kick makes leave",
        preemptions: 4,
    },
    world: unchanged,
    steps: &[change, stay],
};

static BACK: Scenario<Guest> = Scenario {
    about: About {
        name: "inside-back",
        rules: "R9",
        race: "a flush against a guest that comes back at once and stays: it is waited for once",
        preemptions: 3,
    },
    world: unchanged,
    steps: &[change, stay_again],
};

static MOVES: Scenario<Guest> = Scenario {
    about: About {
        name: "inside-moves",
        rules: "R9",
        race: "a flush while a vCPU goes from CPU to CPU and comes back to what it has cached (F9)",
        preemptions: 2,
    },
    world: unchanged,
    steps: &[change, enter, enter],
};

static TWO: Scenario<Guest> = Scenario {
    about: About {
        name: "inside-two-flushes",
        rules: "R9",
        race: "two flushes, one behind the other, against a guest that stays",
        preemptions: 2,
    },
    world: || Guest::new(2),
    steps: &[change, stay_again, change],
};
