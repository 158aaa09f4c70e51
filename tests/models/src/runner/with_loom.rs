//! Exhaustive within the bound.

use super::{Effort, Plan};
use crate::scenario::Model;

/// For reports.
pub const NAME: &str = "loom";
pub use loom::thread;

/// Steps of one run that are too many: a scenario that gets there waits for ever.
const STEPS: usize = 100_000;

fn preemptions(model: &dyn Model, plan: &Plan) -> usize {
    let own = model.about().preemptions;
    let ours = match plan.effort {
        Effort::Brief => 1,
        Effort::Usual => own,
        Effort::Deep => own + 1,
    };
    plan.preemptions.unwrap_or(ours)
}

pub fn describe(model: &dyn Model, plan: &Plan) -> String {
    format!("bound={}", preemptions(model, plan))
}

pub fn explore(model: &'static dyn Model, plan: &Plan) {
    let mut loom = loom::model::Builder::new();
    loom.preemption_bound = Some(preemptions(model, plan));
    loom.max_branches = STEPS;
    loom.check(|| model.once());
}
