//! Who chooses the interleaving. One of these, by how the crate is built:
//!
//! - loom: all of them, and all that C11 lets a load see, within a bound on preemptions
//! - shuttle: thousands, chosen at random and by PCT, one operation after another
//! - threads: the operating system's, as many rounds as time allows; under Miri a few, checked for undefined behaviour

#[cfg(loom)]
#[path = "with_loom.rs"]
mod flavour;
#[cfg(shuttle)]
#[path = "with_shuttle.rs"]
mod flavour;
#[cfg(not(any(loom, shuttle)))]
#[path = "with_threads.rs"]
mod flavour;

use crate::scenario::Model;
pub use flavour::{NAME, thread};

/// How hard to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// A glance: that the scenario works at all.
    Brief,
    /// As much as every test run can afford.
    Usual,
    /// As much as a night can.
    Deep,
}

/// How a runner looks at one scenario.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How hard.
    pub effort: Effort,
    /// Preemptions that loom explores, in place of the scenario's own number.
    pub preemptions: Option<usize>,
    /// Where random choices begin.
    pub seed: u64,
}

/// Explores `model`; comes back if nothing was found. What was explored beside the number of runs, as `key=value` words,
/// is [`describe`]'s answer.
pub fn explore(model: &'static dyn Model, plan: &Plan) {
    flavour::explore(model, plan);
}

/// What `explore` is going to do, as `key=value` words.
#[must_use]
pub fn describe(model: &dyn Model, plan: &Plan) -> String {
    flavour::describe(model, plan)
}
