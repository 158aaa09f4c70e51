//! A flush against CPUs on their way into a guest, as x86 does it (`backend-x86/src/machine/inside.rs`), and POWER
//! (`backend-ppc64/src/inside.rs`).
//!
//! ```text
//!   CPU 1, 2  entering: what is cached dropped if stale (POWER: always); the guest walks the table or uses what is cached;
//!             kicked? leave
//!   CPU 0     the table's entry changed; flush: kick who is inside, wait; the old frame given to an heir
//! ```
//!
//! An entry of the table is a frame's number. Nobody uses a frame that was given away (R9, G1); what a guest stored into it
//! before that, whoever gave it away has found there (R8); and a flush comes to an end although a guest comes back at once.

use std::num::NonZeroU16;

use backend_ppc64::inside as power;
use backend_x86::machine::inside::{self as x86, Cached, Seen};
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

/// Who is inside, as one of the two keeps it.
pub trait Inside: Send + Sync + 'static {
    /// Nobody is.
    fn nobody() -> Self;
    /// CPU `cpu`, the caller, enters, and leaves when `guest` returns, which is told what of its translations are good.
    fn run(&self, cpu: &Cpu, tag: VmTag, seen: &mut Seen, guest: impl FnOnce(Cached));
    /// Returns once no CPU uses old translations.
    fn flush(&self, tag: VmTag, kick: impl Fn(CpuId));
}

impl Inside for x86::Inside {
    fn nobody() -> Self {
        Self::new(CPUS).expect("there is a heap")
    }

    fn run(&self, cpu: &Cpu, tag: VmTag, seen: &mut Seen, guest: impl FnOnce(Cached)) {
        guest(self.entering(cpu.id(), tag, seen));
        self.left(cpu.id());
    }

    fn flush(&self, tag: VmTag, kick: impl Fn(CpuId)) {
        self.flush(tag, kick);
    }
}

impl Inside for power::Inside {
    fn nobody() -> Self {
        Self::new()
    }

    fn run(&self, cpu: &Cpu, tag: VmTag, _seen: &mut Seen, guest: impl FnOnce(Cached)) {
        let left = self.with(cpu, tag, || {
            guest(Cached::Stale);
            0
        });
        assert_eq!(left, 0, "the machine has this CPU");
    }

    fn flush(&self, tag: VmTag, kick: impl Fn(CpuId)) {
        self.wait(tag, CPUS, || (), kick);
    }
}

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
pub struct Guest<I> {
    domain: Domain,
    inside: I,
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

impl<I: Inside> Guest<I> {
    /// The vCPU has run on CPU 1 and has the entry cached there; then there are to be so many changes.
    fn new(changes: u64) -> Self {
        let guest = Self {
            domain: Domain::new(),
            inside: I::nobody(),
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
        let mut seen = self.vcpu.lock();
        self.inside.run(cpu, TAG, &mut seen, |cached| self.inside_guest(usize::from(cpu.id().0), cached, stay));
    }

    fn inside_guest(&self, here: usize, cached: Cached, stay: Stay) {
        if cached == Cached::Stale {
            self.cached[here].store(NOTHING, Ordering::Relaxed);
        }
        // The processor's walk. It is ordered by nothing but what was done on the way in.
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

impl<I: Inside> World for Guest<I> {
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

fn unchanged<I: Inside>() -> Guest<I> {
    Guest::new(1)
}

fn two_to_come<I: Inside>() -> Guest<I> {
    Guest::new(2)
}

fn change<I: Inside>(w: &Guest<I>, _cpu: &Cpu) {
    w.change();
}

fn enter<I: Inside>(w: &Guest<I>, cpu: &Cpu) {
    w.run(cpu, Stay::Store);
}

fn enter_again<I: Inside>(w: &Guest<I>, cpu: &Cpu) {
    w.run(cpu, Stay::Store);
    w.run(cpu, Stay::Store);
}

/// Then another VM runs there, which touches nothing.
fn enter_other<I: Inside>(w: &Guest<I>, cpu: &Cpu) {
    w.run(cpu, Stay::Store);
    w.inside.run(cpu, OTHER, &mut Seen::default(), |_| ());
}

fn stay<I: Inside>(w: &Guest<I>, cpu: &Cpu) {
    w.run(cpu, Stay::Kicked);
}

/// It comes back at once, and stays until nobody changes anything any more.
fn stay_again<I: Inside>(w: &Guest<I>, cpu: &Cpu) {
    w.run(cpu, Stay::Kicked);
    w.run(cpu, Stay::Kicked);
}

/// For the list of all.
pub static ALL: &[&dyn Model] =
    &[&ENTRY, &OTHER_VM, &KICK, &BACK, &MOVES, &TWO, &POWER_ENTRY, &POWER_OTHER_VM, &POWER_BACK, &POWER_TWO];

type X86 = Scenario<Guest<x86::Inside>>;
type Power = Scenario<Guest<power::Inside>>;

/// What a CPU does.
type Step<I> = fn(&Guest<I>, &Cpu);

const fn scenario<I: Inside>(
    about: [&'static str; 2],
    preemptions: usize,
    steps: &'static [Step<I>],
) -> Scenario<Guest<I>> {
    let [name, race] = about;
    Scenario { about: About { name, rules: "R8,R9", race, preemptions }, world: unchanged, steps }
}

const OF_ENTRIES: &str = "a flush against a guest's entries";
const OF_ANOTHER: &str = "a flush of a VM after which another one was entered";
const OF_BACK: &str = "a flush against a guest that comes back at once and stays: it is waited for once";
const OF_TWO: &str = "two flushes, one behind the other, against a guest that stays";

static ENTRY: X86 = scenario(["inside-entry", OF_ENTRIES], 4, &[change, enter_again]);

static OTHER_VM: X86 = scenario(["inside-other", OF_ANOTHER], 4, &[change, enter_other]);

static KICK: X86 =
    scenario(["inside-kick", "a flush against a guest that only a kick makes leave"], 4, &[change, stay]);

static BACK: X86 = scenario(["inside-back", OF_BACK], 3, &[change, stay_again]);

static MOVES: X86 = scenario(
    ["inside-moves", "a flush while a vCPU goes from CPU to CPU and comes back to what it has cached (F9)"],
    2,
    &[change, enter, enter],
);

static TWO: X86 =
    Scenario { world: two_to_come, ..scenario(["inside-two-flushes", OF_TWO], 2, &[change, stay_again, change]) };

static POWER_ENTRY: Power = scenario(["inside-power-entry", OF_ENTRIES], 4, &[change, enter_again]);

static POWER_OTHER_VM: Power = scenario(["inside-power-other", OF_ANOTHER], 4, &[change, enter_other]);

static POWER_BACK: Power = scenario(["inside-power-back", OF_BACK], 3, &[change, stay_again]);

static POWER_TWO: Power =
    Scenario { world: two_to_come, ..scenario(["inside-power-two-flushes", OF_TWO], 2, &[change, stay_again, change]) };
