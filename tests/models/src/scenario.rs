//! What a scenario is.
//!
//! ```text
//!   make the world                                   one thread
//!   steps[0] as CPU 0 | steps[1] as CPU 1 | ...      a thread each; every interleaving is the checker's choice
//!   World::end                                       one thread; what must be true at the end, and teardown
//! ```
//!
//! A broken rule is a panic whose message begins with the oracle's name (`G1: ...`), at the point where it shows; the
//! museum asks for that name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hv_core::epoch::{Cpu, Domain};
use hv_core::machine::CpuId;

use crate::runner::thread;

/// What the CPUs of a scenario share.
pub trait World: Send + Sync + 'static {
    /// Where they are members.
    fn domain(&self) -> &Domain;
    /// Called when every CPU has done its step: nothing was seen broken, and all frames come back.
    fn end(self, cpu: &Cpu);
}

/// A race, as data. CPU `n` carries out `steps[n]`.
pub struct Scenario<W: World> {
    /// Its name and what it is about.
    pub about: About,
    /// Makes the world. Called with no CPU in its domain.
    pub world: fn() -> W,
    /// What each CPU does.
    pub steps: &'static [fn(&W, &Cpu)],
}

/// What a reader and a runner want to know of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name on command lines.
    pub name: &'static str,
    /// The rules it defends.
    pub rules: &'static str,
    /// The race, in one line.
    pub race: &'static str,
    /// How many preemptions loom explores exhaustively.
    pub preemptions: usize,
}

/// A scenario of whatever world.
pub trait Model: Sync {
    /// What it is about.
    fn about(&self) -> About;
    /// Runs it once, in the order that the runner chooses.
    fn once(&'static self);
}

/// How many runs were begun since [`begin`].
static RUNS: AtomicU64 = AtomicU64::new(0);

/// Starts the count anew.
pub fn begin() {
    RUNS.store(0, Ordering::Relaxed);
}

/// The count.
#[must_use]
pub fn runs() -> u64 {
    RUNS.load(Ordering::Relaxed)
}

impl<W: World> Model for Scenario<W> {
    fn about(&self) -> About {
        self.about
    }

    fn once(&'static self) {
        RUNS.fetch_add(1, Ordering::Relaxed);
        let world = Arc::new((self.world)());
        let step = |n: usize| {
            let world = Arc::clone(&world);
            move || as_cpu(world.domain(), n, |cpu| self.steps[n](&world, cpu))
        };
        let others: Vec<_> = (1..self.steps.len()).map(|n| thread::spawn(step(n))).collect();
        step(0)();
        for other in others {
            other.join().expect("every CPU comes through");
        }
        // The threads' own handles on the world are gone: join waits for the end of their closures.
        let world = Arc::into_inner(world).expect("nobody else holds the world");
        let cpu = world.domain().cpu(CpuId(0)).expect("CPU 0 has left");
        world.end(&cpu);
    }
}

/// Carries out `step` as CPU `n` of `domain`, and leaves: a checker need not ask about who is gone.
pub fn as_cpu<R>(domain: &Domain, n: usize, step: impl FnOnce(&Cpu) -> R) -> R {
    let cpu = domain.cpu(CpuId(n as u16)).expect("a CPU has one thread");
    let result = step(&cpu);
    domain.leave(cpu);
    result
}
