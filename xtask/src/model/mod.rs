//! `cargo xtask model`: the races of `tests/models`, each explored by every runner.
//!
//! The scenarios are one program, built once a flavour (`runner.rs`); each scenario is a process of its own, so that one
//! that dies or hangs takes no other with it.

mod outcome;
mod runner;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::error::{refuse, suggestion};
use crate::progress::Parts;
use crate::test::Depth;
use crate::watched::{self, Ran};
use crate::{jobs, process};
use outcome::{Scenario, list};
pub use outcome::{Verdict, judge, thousands};
pub use runner::{Flavour, PROFILE, Runner};

/// The command's arguments.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// Only this scenario
    pub scenario: Option<String>,
    /// Only this runner
    #[arg(long, value_enum)]
    pub runner: Option<Runner>,
    /// Ten times as many schedules, or one preemption further
    #[arg(long)]
    pub deep: bool,
    /// Name the scenarios, explore none
    #[arg(long)]
    pub list: bool,
}

/// How long one scenario may take under one runner.
fn limit(depth: Depth) -> Duration {
    match depth {
        Depth::Usual => Duration::from_secs(10 * 60),
        Depth::Deep => Duration::from_secs(8 * 60 * 60),
    }
}

/// Carries out the command.
pub fn run(args: &ModelArgs) -> Result<()> {
    let depth = if args.deep { Depth::Deep } else { Depth::Usual };
    if args.list {
        show(&scenarios(&Program::of(args.runner.unwrap_or(Runner::Threads))?)?);
        return Ok(());
    }
    match args.runner {
        Some(runner) => explore(runner, args.scenario.as_deref(), depth),
        None => all(args.scenario.as_deref(), depth),
    }
}

/// Every runner there is; goes on after a failure, so that one run shows all.
fn all(only: Option<&str>, depth: Depth) -> Result<()> {
    let there = runner::miri().is_some();
    let mut failed = Vec::new();
    for runner in Runner::ALL.into_iter().filter(|runner| *runner != Runner::Miri || there) {
        match explore(runner, only, depth) {
            Ok(()) => {}
            // The same for all of them.
            Err(error) if error.is::<crate::error::Refused>() => return Err(error),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    if !there {
        println!("miri: {}", runner::NO_MIRI);
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

/// The scenarios' program, as one runner needs it.
enum Program {
    Built(std::path::PathBuf),
    Interpreted,
}

impl Program {
    fn of(runner: Runner) -> Result<Self> {
        Ok(match runner {
            Runner::Loom | Runner::Shuttle | Runner::Threads => Self::Built(runner::build(runner.flavour())?),
            Runner::Miri => Self::Interpreted,
        })
    }

    fn run(&self, words: &[&str], limit: Duration) -> Result<Ran> {
        let mut command = match self {
            Self::Built(program) => process::outlived(program),
            Self::Interpreted => return watched::run(&mut runner::under_miri(words)?, limit, |_| {}),
        };
        watched::run(command.args(words), limit, |_| {})
    }
}

fn scenarios(program: &Program) -> Result<Vec<Scenario>> {
    let ran = program.run(&["--list"], Duration::from_secs(600))?;
    list(&ran.lines).with_context(|| format!("the scenarios' program: {}", ran.ending()))
}

/// Explores all scenarios, or `only` one, with `runner`; prints a table, fails if anything but a clean end came of one.
pub fn explore(runner: Runner, only: Option<&str>, depth: Depth) -> Result<()> {
    let program = Program::of(runner)?;
    let all = scenarios(&program)?;
    let names = || all.iter().map(|scenario| scenario.name.as_str());
    if let Some(wanted) = only.filter(|wanted| !names().any(|name| name == *wanted)) {
        let hint = suggestion(wanted, names());
        let known = names().collect::<Vec<_>>().join(" ");
        return Err(refuse(format!("unknown scenario {wanted:?}{hint} (scenarios: {known})")));
    }
    let chosen: Vec<&Scenario> = all.iter().filter(|one| only.is_none_or(|name| one.name == name)).collect();
    let widest = chosen.iter().map(|one| one.name.len()).max().unwrap_or(0);
    // Threads race best with the machine to themselves.
    let workers = if runner == Runner::Threads { 1 } else { jobs::cores() };
    let work = |_, scenario: &&Scenario| {
        let words = [scenario.name.as_str(), "--deep"];
        program.run(words.get(..if depth == Depth::Deep { 2 } else { 1 }).unwrap_or(&words), limit(depth))
    };
    let mut failed = Vec::new();
    let parts = Parts::new(runner.name(), chosen.len());
    jobs::each(&chosen, workers, work, |number, ran| {
        let Some(scenario) = chosen.get(number) else { return };
        let (verdict, seconds, details) = match ran {
            Ok(ran) => (judge(&scenario.name, runner, &ran), ran.time.as_secs_f64(), ran.tail(30)),
            Err(error) => (Verdict::Unknown(format!("{error:#}")), 0.0, String::new()),
        };
        let (mark, what) = match &verdict {
            Verdict::Clean(explored) => ("ok  ", explored.clone()),
            Verdict::Broken(finding) => {
                ("FAIL", format!("execution {}: {}", thousands(finding.executions), finding.text))
            }
            Verdict::Unknown(why) => ("FAIL", why.clone()),
        };
        let head =
            format!("{mark} {:7} {:widest$}  {:16} {seconds:7.1} s", runner.name(), scenario.name, scenario.rules);
        parts.done(&format!("{head}  {what}"));
        if let Verdict::Unknown(_) = verdict {
            println!("{details}");
        }
        if !matches!(verdict, Verdict::Clean(_)) {
            failed.push(scenario.name.clone());
        }
    });
    drop(parts);
    if failed.is_empty() { Ok(()) } else { bail!("{}: failed: {}", runner.name(), failed.join(", ")) }
}

/// Prints the list.
fn show(scenarios: &[Scenario]) {
    let widest = scenarios.iter().map(|one| one.name.len()).max().unwrap_or(0);
    for one in scenarios {
        println!("{:widest$}  {:16} {}", one.name, one.rules, one.race);
    }
}
