//! `failures [--all] [--filter TEXT]`: the conformance table, with one allocation of each case after the other failing.
//!
//! Every frame of guests, tables and stores is asked for at a number of places, and any of them may be told that there is
//! none. For each case: how many frames are asked for is counted; then it is run again, as often, and the first, second,
//! third ... of them is refused; and once more, with all refused from there on. The case may then fail, and say so. What it
//! may not: panic, lose a frame or a page of a store, leave something that disagrees at rest, break a rule.
//!
//! ```text
//!   FAILURES ok host-radix cases=186 points=12345 runs=8888 ms=9876
//!   FAILURES FAIL host-radix CASE refused=17..18 of 60 -- WHY
//! ```
//!
//! Without `--all` no more than a few places of each case are tried, evenly. Each case has a process of its own, so that a
//! panic in the midst of another, or a case that waits for ever, takes no other with it. Status: 0 nothing found, 1
//! something.
//!
//! Races between two CPUs are left out: of two, the one that gives up leaves the other waiting. What of the heap is asked
//! for is not refused; there, too, every request but those for a new VM, object or cache is one that may fail.

use std::cell::RefCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backend_fake::column::HostRig;
use backend_fake::{FakeHash, FakeMachine, FakeRadix, FakeStage2};
use clap::Parser;
use conformance::cases::{Case, table};
use conformance::probe::Image;
use conformance::rig::{Bench, Codec, Rig};
use conformance::verdict::Stop;
use hv_core::addr::{Gpa, Order};
use hv_core::epoch::Cpu;
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::mmu::Space;
use hv_core::page::RESERVE;

/// Places of each case that are tried without `--all`.
const FEW: u64 = 12;
/// How long one case may take, with and without.
const LIMIT: [Duration; 2] = [Duration::from_secs(100), Duration::from_secs(3600)];

/// The conformance table, with one allocation of each case after the other failing.
#[derive(Debug, Parser)]
struct Args {
    /// Every place of every case.
    #[arg(long)]
    all: bool,
    /// Only cases whose names contain this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Only this column, in this process: what each case's own process is told.
    #[arg(long, hide = true)]
    column: Option<String>,
}

/// A column whose machine has one CPU: of two that a case runs, the one that gave up would leave the other waiting.
struct OneCpu(HostRig);

impl<I> Rig<I> for OneCpu
where
    I: Isa<Machine = FakeMachine, Stage2: FakeStage2<Claim = I::Claim>>,
{
    fn machine(&self) -> &FakeMachine {
        Rig::<I>::machine(&self.0)
    }
    fn cpu(&self) -> &Cpu {
        Rig::<I>::cpu(&self.0)
    }
    fn codecs(&self) -> &[Codec] {
        &[]
    }
    fn probe(&self) -> Result<Image, &'static str> {
        Rig::<I>::probe(&self.0)
    }
    fn claim(&self, stage2: &I::Stage2, gpa: Gpa, size: Order) -> I::Claim {
        Rig::<I>::claim(&self.0, stage2, gpa, size)
    }
    fn both(&self, _there: &(dyn Fn(&Cpu) + Sync), _here: &mut dyn FnMut(&Cpu)) -> bool {
        false
    }
    fn at_rest(&self, space: &Space<I>) {
        self.0.at_rest(space);
    }
    fn violated(&self) -> bool {
        Rig::<I>::violated(&self.0)
    }
}

thread_local! {
    /// What is being refused.
    static NOW: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What trying a case came to.
#[derive(Default)]
struct Tried {
    /// Allocations of the case.
    points: u64,
    /// Runs with some of them refused.
    runs: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let fine = match args.column.as_deref() {
        Some("host-radix") => here::<FakeRadix>(&args),
        Some(_) => here::<FakeHash>(&args),
        None => column("host-radix", &names::<FakeRadix>(), &args) & column("host-hash", &names::<FakeHash>(), &args),
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn names<I: Isa>() -> Vec<&'static str> {
    table::<I>().map(|case| case.name).collect()
}

/// All cases of one column, each in a process of its own, as many at once as there are CPUs. False if something was found.
fn column(name: &str, cases: &[&str], args: &Args) -> bool {
    let begun = Instant::now();
    let chosen: Vec<&str> = cases.iter().copied().filter(|case| case.contains(&args.filter)).collect();
    let (left, found) = (Mutex::new(chosen.iter()), AtomicU64::new(0));
    let (points, runs) = (AtomicU64::new(0), AtomicU64::new(0));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = { left.lock().expect("nobody panics").next() } {
                    match apart(name, case, args) {
                        Ok(tried) => {
                            points.fetch_add(tried.points, Ordering::Relaxed);
                            runs.fetch_add(tried.runs, Ordering::Relaxed);
                        }
                        Err(why) => {
                            found.fetch_add(1, Ordering::Relaxed);
                            println!("FAILURES FAIL {name} {case} {why}");
                        }
                    }
                }
            });
        }
    });
    let fine = found.into_inner() == 0 && !chosen.is_empty();
    if fine {
        let (cases, points, runs, ms) =
            (chosen.len(), points.into_inner(), runs.into_inner(), begun.elapsed().as_millis());
        println!("FAILURES ok {name} cases={cases} points={points} runs={runs} ms={ms}");
    }
    fine
}

/// One case, in a process of its own.
fn apart(column: &str, case: &str, args: &Args) -> Result<Tried, String> {
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.args(["--column", column, "--filter", case]).args(args.all.then_some("--all"));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    let until = Instant::now() + LIMIT[usize::from(args.all)];
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if Instant::now() > until {
            child.kill().map_err(|error| error.to_string())?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let out = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&out.stdout);
    let words: Vec<&str> = text.lines().last().unwrap_or_default().split(' ').collect();
    let number = |word: &str| word.parse().map_err(|_| format!("-- {word} is no number"));
    match words[..] {
        ["TRIED", points, runs] => Ok(Tried { points: number(points)?, runs: number(runs)? }),
        _ => Err(text.lines().next().map_or_else(|| format!("-- {}", out.status), str::to_owned)),
    }
}

/// One case, in this process.
fn here<I>(args: &Args) -> bool
where
    I: Isa<Machine = FakeMachine, Stage2: FakeStage2<Claim = I::Claim>>,
{
    // At once: a second panic, in the midst of the first, ends the process.
    std::panic::set_hook(Box::new(|info| println!("{} -- {}", NOW.take(), info.to_string().replace('\n', " "))));
    let mut rig = None;
    let Some(case) = table::<I>().find(|case| case.name == args.filter) else { return false };
    // Nothing is refused: how many are asked for.
    let points = match once(&mut rig, &case, 0..0) {
        Ok(points) => points,
        Err(why) => {
            println!("with nothing refused -- {why}");
            return false;
        }
    };
    let mut runs = 0;
    let step = if args.all { 1 } else { points.div_ceil(FEW).max(1) };
    // The first and the last are always tried.
    let numbers = (0..points).step_by(step as usize).chain(points.checked_sub(1));
    for refused in numbers.flat_map(|n| [n..n + 1, n..u64::MAX]) {
        runs += 1;
        NOW.set(format!("refused={refused:?} of {points}"));
        if let Err(why) = once(&mut rig, &case, refused.clone()) {
            println!("refused={refused:?} of {points} -- {why}");
            return false;
        }
    }
    println!("TRIED {points} {runs}");
    true
}

/// Runs a case while these allocations fail; says how many there were.
fn once<I>(kept: &mut Option<OneCpu>, case: &Case<I>, refused: Range<u64>) -> Result<u64, String>
where
    I: Isa<Machine = FakeMachine, Stage2: FakeStage2<Claim = I::Claim>>,
{
    let rig = kept.take().unwrap_or_else(|| OneCpu(HostRig::new(&[])));
    let asked = {
        let rig: &dyn Rig<I> = &rig;
        let frames = rig.machine().frames();
        frames.keep_reserve(Rig::<I>::cpu(rig), RESERVE);
        let before = frames.counts();
        frames.fail(refused.clone());
        let run = catch_unwind(AssertUnwindSafe(|| (case.run)(&Bench::new(rig))));
        let asked = frames.asked();
        frames.fail(0..0);
        let run = run.map_err(|_| "it panicked".to_owned())?;
        if refused.is_empty() {
            run.or_else(|stop| match stop {
                Stop::Skip(_) => Ok(()),
                Stop::Fail(why) => Err(why.to_owned()),
            })?;
        }
        if let Some(seen) = rig.machine().violations().first() {
            return Err(seen.clone());
        }
        let after = frames.counts();
        if (after.free + after.reserve, after.refused) != (before.free + before.reserve, before.refused) {
            return Err(format!("R24: {before:?} became {after:?}"));
        }
        asked
    };
    // A machine on which something went wrong is of no more use.
    *kept = Some(rig);
    Ok(asked)
}
