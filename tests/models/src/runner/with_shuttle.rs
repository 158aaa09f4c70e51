//! Many schedules, half of them random, half by PCT, which finds a bug of depth d with a known probability.

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use super::{Effort, Plan};
use crate::scenario::Model;

/// For reports.
pub const NAME: &str = "shuttle";
pub use shuttle::thread;

/// Priority changes in a run of PCT.
const DEPTH: usize = 3;

/// Bytes of each thread's stack. Worlds are made on one, in a profile that copies them from frame to frame.
const STACK: usize = 256 << 10;

/// Schedules of each kind.
fn each(plan: &Plan) -> usize {
    match plan.effort {
        Effort::Brief => 100,
        Effort::Usual => 5_000,
        Effort::Deep => 50_000,
    }
}

pub fn describe(_model: &dyn Model, plan: &Plan) -> String {
    format!("random={} pct={} depth={DEPTH} seed={}", each(plan), each(plan), plan.seed)
}

fn config() -> Config {
    let mut config = Config::new();
    // The seed brings a schedule back; printed ones fill screens.
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(1_000_000);
    config.stack_size = STACK;
    // That it takes every order for sequentially consistent is known: weak orders are loom's part.
    config.silence_warnings = true;
    config
}

pub fn explore(model: &'static dyn Model, plan: &Plan) {
    let random = RandomScheduler::new_from_seed(plan.seed, each(plan));
    Runner::new(random, config()).run(|| model.once());
    let pct = PctScheduler::new_from_seed(plan.seed, DEPTH, each(plan));
    Runner::new(pct, config()).run(|| model.once());
}
