//! Real threads on real CPUs, round after round, until there were enough or the time is up.

use std::time::{Duration, Instant};

use super::{Effort, Plan};
use crate::scenario::Model;

/// For reports.
pub const NAME: &str = if cfg!(miri) { "miri" } else { "threads" };
pub use std::thread;

/// Rounds at most, and for how long: whole geometries take their time.
fn limits(plan: &Plan) -> (u64, Duration) {
    match plan.effort {
        _ if cfg!(miri) => (3, Duration::from_secs(600)),
        Effort::Brief => (50, Duration::from_secs(1)),
        Effort::Usual => (2_000, Duration::from_secs(5)),
        Effort::Deep => (200_000, Duration::from_secs(600)),
    }
}

pub fn describe(_model: &dyn Model, plan: &Plan) -> String {
    let (rounds, time) = limits(plan);
    format!("rounds={rounds} seconds={}", time.as_secs())
}

pub fn explore(model: &'static dyn Model, plan: &Plan) {
    let (rounds, time) = limits(plan);
    let since = Instant::now();
    for _ in 0..rounds {
        model.once();
        if since.elapsed() > time {
            return;
        }
    }
}
