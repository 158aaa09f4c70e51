//! `models [--list] [--deep] [--preemptions N] [--seed N] [SCENARIO...]`: explores scenarios, all if none is named.
//!
//! How it is built decides who explores (`--profile models` is in the workspace's Cargo.toml; each flavour has a target
//! folder of its own, because RUSTFLAGS rebuild everything):
//!
//! ```text
//!   loom     RUSTFLAGS="--cfg loom"     cargo run -p models --profile models --target-dir target/loom -- ...
//!   shuttle  RUSTFLAGS="--cfg shuttle"  cargo run -p models --profile models --target-dir target/shuttle -- ...
//!   threads                             cargo run -p models --profile models -- ...
//!   miri     RUSTFLAGS="--cfg small" MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks"
//!                                       cargo +nightly miri run -p models --target-dir target/miri -- ...
//! ```
//!
//! It prints one line for each scenario, and goes on to the next only while nothing was found:
//!
//! ```text
//!   MODEL ok NAME runner=loom executions=1234 ms=567 bound=2
//!   MODEL ok NAME runner=shuttle executions=10000 ms=567 random=5000 pct=5000 depth=3 seed=1
//!   MODEL ok NAME runner=threads executions=1987 ms=5000 rounds=2000 seconds=5
//!   MODEL FAIL NAME runner=loom executions=17 ms=5 bound=2 oracle=G1 -- G1: a store landed in a frame ...
//! ```
//!
//! `oracle` is the oracle or rule that was broken, `deadlock`, or `panic` for an assertion of the source itself; all
//! after ` -- ` is the finding in full. Status: 0 nothing found, 1 a violation, 2 wrongly asked. `--list` prints
//! `MODEL list NAME rules=R1,R2 preemptions=2 -- the race`.

use std::panic::PanicHookInfo;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use clap::Parser;
use models::runner::{self, Effort, Plan};
use models::scenario::{self, Model};
use models::scenarios::all;

/// Explores races of the shipped source.
#[derive(Debug, Parser)]
struct Args {
    /// Names the scenarios and ends.
    #[arg(long)]
    list: bool,
    /// Looks ten times as hard, or one preemption further.
    #[arg(long)]
    deep: bool,
    /// Preemptions that loom explores, instead of each scenario's own number.
    #[arg(long)]
    preemptions: Option<usize>,
    /// Where random schedules begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The scenarios; all if none is named.
    scenario: Vec<String>,
}

/// The scenario under way, for the report of a violation.
struct Current {
    name: &'static str,
    plan: String,
    since: Instant,
}

static CURRENT: Mutex<Option<Current>> = Mutex::new(None);

fn main() -> ExitCode {
    let args = Args::parse();
    let unknown = args.scenario.iter().find(|name| !all().any(|m| m.about().name == **name));
    if let Some(name) = unknown {
        eprintln!("models: no scenario is called {name}; --list names them");
        return ExitCode::from(2);
    }
    let chosen = || all().filter(|m| args.scenario.is_empty() || args.scenario.iter().any(|n| n == m.about().name));
    if args.list {
        chosen().for_each(list);
        return ExitCode::SUCCESS;
    }
    let effort = if args.deep { Effort::Deep } else { Effort::Usual };
    let plan = Plan { effort, preemptions: args.preemptions, seed: args.seed };
    // A panic is the finding. There is nothing to go back to: the world's other CPUs stand wherever they were.
    std::panic::set_hook(Box::new(found));
    chosen().for_each(|m| explore(m, &plan));
    ExitCode::SUCCESS
}

fn list(model: &dyn Model) {
    let about = model.about();
    println!("MODEL list {} rules={} preemptions={} -- {}", about.name, about.rules, about.preemptions, about.race);
}

fn explore(model: &'static dyn Model, plan: &Plan) {
    let current = Current { name: model.about().name, plan: runner::describe(model, plan), since: Instant::now() };
    *CURRENT.lock().expect("nobody panicked and went on") = Some(current);
    scenario::begin();
    runner::explore(model, plan);
    if let Some(current) = CURRENT.lock().expect("nobody panicked and went on").take() {
        report("ok", &current, "");
    }
}

fn report(verdict: &str, c: &Current, more: &str) {
    let (executions, ms) = (scenario::runs(), c.since.elapsed().as_millis());
    println!("MODEL {verdict} {} runner={} executions={executions} ms={ms} {}{more}", c.name, runner::NAME, c.plan);
}

fn found(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a panic without a message").replace('\n', " ");
    let at = info.location().map_or_else(String::new, |l| format!(" ({}:{})", l.file(), l.line()));
    // Another thread may be here already; the first one reports.
    if let Some(current) = CURRENT.lock().ok().and_then(|mut c| c.take()) {
        report("FAIL", &current, &format!(" oracle={} -- {message}{at}", oracle(&message)));
        std::process::exit(1);
    }
}

/// The oracle that a message names, as in `G1: ...`.
fn oracle(message: &str) -> &str {
    let numbered = |name: &&str| {
        name.strip_prefix(['G', 'R']).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    match message.split(' ').filter_map(|word| word.strip_suffix(':')).find(numbered) {
        Some(name) => name,
        None if message.starts_with("deadlock") => "deadlock",
        None if message.contains("exceeded maximum number of branches") => "livelock",
        None => "panic",
    }
}
