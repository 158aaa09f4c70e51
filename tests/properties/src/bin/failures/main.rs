//! `failures [--all] [--filter TEXT]`: the conformance table, with one allocation of each case after the other failing.
//!
//! Frames of guests, tables and stores are asked for at a number of places, memory of the heap at others, and any of them
//! may be told that there is none. For each case: how many frames are asked for is counted; then it is run again, as often,
//! and the first, second, third ... of them is refused; and once more, with all refused from there on. Then the same with
//! what hv-core asks of the heap, on a new machine each time, so that what a machine asks for once is refused too. The case
//! may then fail, and say so. What it may not: panic or abort, lose a frame, a page of a store or a byte of the heap, leave
//! something that disagrees at rest, break a rule. And where the heap was refused the case must succeed the next time.
//!
//! ```text
//!   FAILURES ok host-radix cases=186 frames=12345 runs=8888 heap=1234 runs=2468 ms=9876
//!   FAILURES FAIL host-radix CASE frames refused=17..18 of 60 -- WHY
//! ```
//!
//! Without `--all` no more than a few places of each case are tried, evenly. Each case has a process of its own, so that a
//! panic in the midst of another, an abort for want of heap, or a case that waits for ever, takes no other with it. Status:
//! 0 nothing found, 1 something.
//!
//! Races between two CPUs are left out: of two, the one that gives up leaves the other waiting. Of the heap, what the fake
//! machine and the cases ask for themselves is not refused, nor what is only ever asked for before guests run
//! (`hv_core::heap`).
#![expect(unsafe_code, reason = "the heap that refuses is this program's global allocator")]

mod heap;
mod vms;

use std::cell::RefCell;
use std::io::Read as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use backend_fake::column::HostRig;
use backend_fake::{FakeHash, FakeMachine, FakeRadix, FakeStage2, Own};
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
use hv_core::page::{Counts, RESERVE};

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
    fn own(&self, work: &mut dyn FnMut()) {
        Rig::<I>::own(&self.0, work);
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

/// What trying a case came to, for frames and for the heap.
#[derive(Default)]
struct Tried {
    /// What the case asks for.
    points: [u64; 2],
    /// Runs with some of it refused.
    runs: [u64; 2],
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

/// The table, and what is beside it.
fn cases<I: Isa>() -> impl Iterator<Item = Case<I>> {
    table::<I>().chain(vms::cases())
}

fn names<I: Isa>() -> Vec<&'static str> {
    cases::<I>().map(|case| case.name).collect()
}

/// All cases of one column, each in a process of its own, as many at once as there are CPUs. False if something was found.
fn column(name: &str, cases: &[&str], args: &Args) -> bool {
    let begun = Instant::now();
    let chosen: Vec<&str> = cases.iter().copied().filter(|case| case.contains(&args.filter)).collect();
    let (left, all) = (Mutex::new(chosen.iter()), Mutex::new((Tried::default(), 0)));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = { left.lock().expect("nobody panics").next() } {
                    let tried = apart(name, case, args);
                    let (sum, found) = &mut *all.lock().expect("nobody panics");
                    match tried {
                        Ok(tried) => {
                            for n in 0..2 {
                                sum.points[n] += tried.points[n];
                                sum.runs[n] += tried.runs[n];
                            }
                        }
                        Err(why) => {
                            *found += 1;
                            println!("FAILURES FAIL {name} {case} {why}");
                        }
                    }
                }
            });
        }
    });
    let (Tried { points, runs }, found) = all.into_inner().expect("nobody panics");
    let fine = found == 0 && !chosen.is_empty();
    if fine {
        let (cases, ms) = (chosen.len(), begun.elapsed().as_millis());
        let [frames, heap] = [0, 1].map(|n| format!("{} runs={}", points[n], runs[n]));
        println!("FAILURES ok {name} cases={cases} frames={frames} heap={heap} ms={ms}");
    }
    fine
}

/// One case, in a process of its own.
fn apart(column: &str, case: &str, args: &Args) -> Result<Tried, String> {
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.args(["--column", column, "--filter", case]).args(args.all.then_some("--all"));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    let mut out = child.stdout.take().ok_or("it has no output")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let until = Instant::now() + LIMIT[usize::from(args.all)];
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if Instant::now() > until {
            child.kill().map_err(|error| error.to_string())?;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = reader.join().map_err(|_| "its output was lost")?.map_err(|error| error.to_string())?;
    let words: Vec<&str> = text.lines().last().unwrap_or_default().split(' ').collect();
    let number = |word: &str| word.parse().map_err(|_| format!("-- {word} is no number"));
    match words[..] {
        ["TRIED", frames, frame_runs, heap, heap_runs] => {
            Ok(Tried { points: [number(frames)?, number(heap)?], runs: [number(frame_runs)?, number(heap_runs)?] })
        }
        _ => {
            // What it said of itself, or, if it could not, what it was about when it ended.
            let told = text.lines().find(|line| line.contains(" -- ")).map(str::to_owned);
            Err(told.unwrap_or_else(|| format!("{} -- {status}", text.lines().last().unwrap_or_default())))
        }
    }
}

/// What is refused.
#[derive(Clone, Copy)]
enum What {
    Frames,
    Heap,
}

/// One case, in this process.
fn here<I>(args: &Args) -> bool
where
    I: Isa<Machine = FakeMachine, Stage2: FakeStage2<Claim = I::Claim>>,
{
    // At once: a second panic, in the midst of the first, ends the process.
    std::panic::set_hook(Box::new(|info| {
        let _own = Own::begin();
        println!("{} -- {}", NOW.take(), info.to_string().replace('\n', " "));
    }));
    let Some(case) = cases::<I>().find(|case| case.name == args.filter) else { return false };
    let tried = each(&case, args, What::Frames).and_then(|frames| Ok((frames, each(&case, args, What::Heap)?)));
    match tried {
        Ok((frames, heap)) => println!("TRIED {} {} {} {}", frames.0, frames.1, heap.0, heap.1),
        Err(ref why) => println!("{why}"),
    }
    tried.is_ok()
}

/// Runs the case with one request after the other refused. How many there are, and how many runs that took.
fn each<I>(case: &Case<I>, args: &Args, what: What) -> Result<(u64, u64), String>
where
    I: Isa<Machine = FakeMachine, Stage2: FakeStage2<Claim = I::Claim>>,
{
    let name = ["frames", "heap"][what as usize];
    let (mut rig, mut clean) = (None, None);
    let mut once = |refused| match what {
        What::Frames => frames_once(&mut rig, case, refused),
        What::Heap => heap_once(&mut clean, case, refused),
    };
    // Nothing is refused: how many are asked for.
    let points = once(0..0).map_err(|why| format!("with nothing refused -- {why}"))?;
    let mut runs = 0;
    let step = if args.all { 1 } else { points.div_ceil(FEW).max(1) };
    // The first and the last are always tried.
    let numbers = (0..points).step_by(step as usize).chain(points.checked_sub(1));
    for refused in numbers.flat_map(|n| [n..n + 1, n..u64::MAX]) {
        runs += 1;
        let now = format!("{name} refused={refused:?} of {points}");
        // An abort tells nobody what it was about.
        println!("{now}");
        NOW.set(now.clone());
        once(refused).map_err(|why| format!("{now} -- {why}"))?;
    }
    Ok((points, runs))
}

/// Runs a case while these of its frames are refused; says how many it asked for.
fn frames_once<I>(kept: &mut Option<OneCpu>, case: &Case<I>, refused: Range<u64>) -> Result<u64, String>
where
    I: Isa<Machine = FakeMachine, Stage2: FakeStage2<Claim = I::Claim>>,
{
    let rig = kept.take().unwrap_or_else(|| OneCpu(HostRig::new(&[])));
    let asked = {
        let rig: &dyn Rig<I> = &rig;
        let frames = rig.machine().frames();
        frames.keep_reserve(Rig::<I>::cpu(rig), RESERVE);
        frames.fail(refused.clone());
        let ran = run(rig, case);
        let asked = frames.asked();
        frames.fail(0..0);
        judged(rig, ran, refused.is_empty())?;
        asked
    };
    // A machine on which something went wrong is of no more use.
    *kept = Some(rig);
    Ok(asked)
}

/// What two runs of a case on one machine come to when the heap refuses nothing.
#[derive(Clone, Copy)]
struct Twice {
    /// The second one succeeds too: not where it takes a machine on which nothing ever was.
    succeeds: bool,
    /// Bytes that are held afterwards: the CPU's shelf of frames.
    held: i64,
}

/// Runs a case on a new machine while these of its requests to the heap are refused; says how many there were. Then runs it
/// again with nothing refused: a byte that the first run lost is one that is held too many, and a refusal is no reason to fail
/// for ever.
fn heap_once<I>(clean: &mut Option<Twice>, case: &Case<I>, refused: Range<u64>) -> Result<u64, String>
where
    I: Isa<Machine = FakeMachine, Stage2: FakeStage2<Claim = I::Claim>>,
{
    let rig = OneCpu(HostRig::new(&[]));
    let (rig, before): (&dyn Rig<I>, _) = (&rig, heap::held());
    let (frames, cpu) = (rig.machine().frames(), rig.cpu());
    let once = |refused: Range<u64>, must_succeed| {
        let (ran, asked) = heap::refusing(refused, || {
            frames.keep_reserve(cpu, RESERVE);
            run(rig, case)
        });
        judged(rig, ran, must_succeed).map(|succeeded| (asked, succeeded))
    };
    let (asked, _) = once(refused.clone(), refused.is_empty())?;
    let again = once(0..0, clean.is_some_and(|clean| clean.succeeds));
    let (_, succeeds) = again.map_err(|why| format!("the next time: {why}"))?;
    // A CPU has a shelf once it has needed one.
    heap::refusing(0..0, || frames.alloc(cpu, Order::PAGE).into_iter().for_each(|frame| frames.free(cpu, frame)));
    let held = heap::held() - before;
    let clean = clean.get_or_insert(Twice { succeeds, held });
    if held != clean.held {
        return Err(format!("{held} bytes of the heap are held, but {} are kept where nothing is refused", clean.held));
    }
    Ok(asked)
}

/// How a run of a case ended, and the frames before it.
struct Ran {
    run: std::thread::Result<conformance::verdict::Run>,
    before: Counts,
}

fn run<I>(rig: &dyn Rig<I>, case: &Case<I>) -> Ran
where
    I: Isa<Machine = FakeMachine, Stage2: FakeStage2<Claim = I::Claim>>,
{
    let before = rig.machine().frames().counts();
    Ran { run: catch_unwind(AssertUnwindSafe(|| (case.run)(&Bench::new(rig)))), before }
}

/// What must be true after it, whether it succeeded or not: that is the answer.
fn judged<I>(rig: &dyn Rig<I>, Ran { run, before }: Ran, must_succeed: bool) -> Result<bool, String>
where
    I: Isa<Machine = FakeMachine, Stage2: FakeStage2<Claim = I::Claim>>,
{
    let failed = match run.map_err(|_| "it panicked".to_owned())? {
        Ok(()) | Err(Stop::Skip(_)) => None,
        Err(Stop::Fail(why)) => Some(why),
    };
    if let Some(why) = failed.filter(|_| must_succeed) {
        return Err(why.to_owned());
    }
    if let Some(seen) = rig.machine().violations().first() {
        return Err(seen.clone());
    }
    let after = rig.machine().frames().counts();
    if (after.free + after.reserve, after.refused) != (before.free + before.reserve, before.refused) {
        return Err(format!("R24: {before:?} became {after:?}"));
    }
    Ok(failed.is_none())
}
