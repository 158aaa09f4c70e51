//! Real threads on real CPUs, round after round.

use super::{Effort, Plan};
use crate::scenario::Model;

/// For reports.
pub const NAME: &str = if cfg!(miri) { "miri" } else { "threads" };
pub use std::thread;

fn rounds(plan: &Plan) -> u64 {
    match plan.effort {
        _ if cfg!(miri) => 3,
        Effort::Brief => 50,
        Effort::Usual => 2_000,
        Effort::Deep => 200_000,
    }
}

pub fn describe(_model: &dyn Model, plan: &Plan) -> String {
    format!("rounds={}", rounds(plan))
}

pub fn explore(model: &'static dyn Model, plan: &Plan) {
    for _ in 0..rounds(plan) {
        model.once();
    }
}
