//! `cargo xtask test`: what CI runs, as a table of steps.

mod boots;
mod console;
mod damage;
mod memory;
mod nested;
mod random;
mod state;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::board::{Board, Machine};
use crate::conformance::{self, Format};
use crate::error::refuse;
use crate::fmt::Mode;
use crate::image::{self, Profile, Variant};
use crate::model::{self, Runner};
use crate::museum::{self, MuseumArgs};
use crate::progress::step;
use crate::{bench, demo, dmesg, fmt, guests, lint, process, setup, size, workspace};

/// How long all of it should take on two cores. Said, never judged: the machine may have other work.
const GOAL: Duration = Duration::from_secs(35 * 60);

/// How much is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What CI runs on each change.
    Usual,
    /// More machines, more random cases; no limit of time.
    Deep,
}

/// One step.
struct Step {
    name: &'static str,
    run: fn(Depth) -> Result<()>,
}

/// The cheap ones first, so that a slip shows at once.
const STEPS: &[Step] = &[
    Step { name: "set-up", run: set_up },
    Step { name: "format", run: |_| fmt::run(Mode::Check) },
    Step { name: "lint", run: |_| lint::run() },
    Step { name: "host tests", run: host_tests },
    Step { name: "models, loom", run: |depth| model::explore(Runner::Loom, None, depth) },
    Step { name: "models, shuttle", run: |depth| model::explore(Runner::Shuttle, None, depth) },
    Step { name: "models, threads", run: |depth| model::explore(Runner::Threads, None, depth) },
    Step { name: "museum", run: museum },
    Step { name: "conformance, host-radix", run: |_| host("host-radix") },
    Step { name: "conformance, host-hash", run: |_| host("host-hash") },
    Step { name: "conformance, host-hpt", run: |_| host("host-hpt") },
    Step { name: "conformance, host-nest", run: |_| host("host-nest") },
    Step { name: "conformance, host-trap", run: |_| host("host-trap") },
    Step { name: "properties", run: random::properties },
    Step { name: "hypercalls", run: random::hypercalls },
    Step { name: "allocation failures", run: random::failures },
    Step { name: "bench, host", run: |_| bench::host::check() },
    Step { name: "build, release", run: |_| build(Profile::Release, &Board::all()?) },
    Step { name: "size", run: |_| size::run(None) },
    Step { name: "bad input", run: boots::refused },
    Step { name: "guests, release", run: |depth| boots::good(Profile::Release, depth, &Board::all()?) },
    Step { name: "guests of guests", run: nested::run },
    Step { name: "memory, release", run: |depth| memory::run(Profile::Release, depth) },
    Step { name: "failures, release", run: |depth| boots::failing(Profile::Release, depth, &Board::all()?) },
    Step { name: "demo: pressure", run: |depth| demo::short("pressure", depth) },
    Step { name: "demo: exhaustion", run: |depth| demo::short("exhaustion", depth) },
    Step { name: "demo: dirty", run: |depth| demo::short("dirty", depth) },
    Step { name: "demo: dirty-nested", run: |depth| demo::short("dirty-nested", depth) },
    Step { name: "demo: lives", run: |depth| demo::short("lives", depth) },
    Step { name: "demo: garbage", run: |depth| demo::short("garbage", depth) },
    Step { name: "kernel messages", run: |_| messages() },
    Step { name: "damaged bundles, release", run: |depth| damage::run(Profile::Release, &whole(depth)?) },
    Step { name: "console input, release", run: |depth| console::run(Profile::Release, &whole(depth)?) },
    Step { name: "registers of neighbours", run: |depth| state::run(Profile::Release, depth) },
    Step { name: "machines", run: boots::machines },
    Step { name: "conformance, boards, release", run: |depth| tables(Profile::Release, depth, &Board::all()?) },
    Step { name: "build, dev", run: |depth| build(Profile::Dev, &dev_boards(depth)?) },
    Step { name: "guests, dev", run: |depth| boots::good(Profile::Dev, depth, &dev_boards(depth)?) },
    Step { name: "failures, dev", run: |depth| boots::failing(Profile::Dev, depth, &dev_boards(depth)?) },
    Step { name: "damaged bundles, dev", run: |depth| damage::run(Profile::Dev, &dev_boards(depth)?) },
    Step { name: "console input, dev", run: |depth| console::run(Profile::Dev, &dev_boards(depth)?) },
    Step { name: "conformance, boards, dev", run: |depth| tables(Profile::Dev, depth, &dev_boards(depth)?) },
    Step { name: "bench", run: |_| measured() },
];

/// Runs the steps whose names contain `only`; goes on after a failure, so that one run shows all.
pub fn run(depth: Depth, only: Option<&str>) -> Result<()> {
    let steps: Vec<&Step> = STEPS.iter().filter(|step| only.is_none_or(|text| step.name.contains(text))).collect();
    if steps.is_empty() {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        return Err(refuse(format!("no step has such a name (steps: {})", names.join("; "))));
    }
    let begun = Instant::now();
    let mut results: Vec<(&str, Duration, bool)> = Vec::new();
    for (number, one) in (1..).zip(&steps) {
        println!("== {number}/{} {}", steps.len(), one.name);
        let start = Instant::now();
        let done = (one.run)(depth);
        if let Err(error) = &done {
            println!("FAILED: {error:#}");
        }
        results.push((one.name, start.elapsed(), done.is_ok()));
    }
    println!("==");
    for (name, time, good) in &results {
        println!("{} {:6.1} s  {name}", if *good { "ok  " } else { "FAIL" }, time.as_secs_f64());
    }
    let total = begun.elapsed();
    println!("total {:6.1} s", total.as_secs_f64());
    if depth == Depth::Usual && total > GOAL {
        println!("note: that is longer than the {} minutes it should take on two cores", GOAL.as_secs() / 60);
    }
    let failed: Vec<&str> = results.iter().filter(|(_, _, good)| !good).map(|(name, ..)| *name).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Everything that has to be installed or fetched, so that no later step's time includes it.
fn set_up(depth: Depth) -> Result<()> {
    for board in Board::all()? {
        for machine in board.machines.iter().filter(|machine| is_usual(machine) || depth == Depth::Deep) {
            println!("{} {}: {}", board.name, machine.name, setup::need_to_run(&board, machine)?.about);
        }
        println!("{}: {}", board.name, guests::default(&board)?.version);
    }
    setup::need_callgrind()?;
    Ok(())
}

fn host_tests(depth: Depth) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["test", "--quiet"]);
    if depth == Depth::Deep {
        cargo.env("PROPTEST_CASES", "20000");
    }
    passed(&step("testing on this machine", || process::output(&mut cargo))?)
}

/// Shows how many tests there were; none is an error.
fn passed(output: &str) -> Result<()> {
    let mut results =
        output.lines().filter(|line| line.starts_with("test result") && !line.contains(" 0 passed")).peekable();
    if results.peek().is_none() {
        bail!("no test was run");
    }
    results.for_each(|line| println!("{line}"));
    Ok(())
}

/// The exhibits of the gate; deeper, all of them.
fn museum(depth: Depth) -> Result<()> {
    museum::run(&MuseumArgs { gate: depth == Depth::Usual, ..MuseumArgs::default() })
}

/// The boards on which everything is tried for every change. On the others it is what their instruction set does in its own
/// way, for the sake of time: what is left out is the same source on every board. `--deep` leaves nothing out.
const WHOLE: [&str; 2] = ["pseries", "virt"];

/// The boards on which everything is tried.
fn whole(depth: Depth) -> Result<Vec<Board>> {
    let mut boards = Board::all()?;
    boards.retain(|board| is_whole(board, depth));
    Ok(boards)
}

/// Whether everything is tried on a board.
fn is_whole(board: &Board, depth: Depth) -> bool {
    depth == Depth::Deep || WHOLE.contains(&board.name.as_str())
}

/// The board whose dev image is always tried.
const DEV: &str = "pseries";

/// The boards whose dev images are tried. What these check beyond the release images is mostly the same source on every
/// board, so that one has to do.
fn dev_boards(depth: Depth) -> Result<Vec<Board>> {
    match depth {
        Depth::Usual => Ok(vec![Board::named(DEV)?]),
        Depth::Deep => Board::all(),
    }
}

fn build(profile: Profile, boards: &[Board]) -> Result<()> {
    for board in boards {
        println!("{}", image::build(board, profile, Variant::Guests)?.display());
    }
    Ok(())
}

/// Every board that the installed emulator can measure: for others a newer one would have to be fetched.
fn measured() -> Result<()> {
    let boards = Board::all()?;
    boards
        .iter()
        .filter(|board| board.emulator.counting().is_some())
        .try_for_each(|board| bench::run(&board.name, None))
}

/// What a guest's kernel complains of, on every board that has a machine to compare with.
fn messages() -> Result<()> {
    for board in Board::all()? {
        if board.machine(None)?.direct.is_some() {
            dmesg::run(&board.name, None)?;
        }
    }
    Ok(())
}

fn host(column: &str) -> Result<()> {
    conformance::run(column, None, Format::Human, Profile::Release)
}

/// Bochs takes minutes for what QEMU does in seconds, and has to be there: it is for `--deep`.
fn is_usual(machine: &Machine) -> bool {
    machine.bochs.is_none()
}

fn tables(profile: Profile, depth: Depth, boards: &[Board]) -> Result<()> {
    let columns = boards.iter().flat_map(Board::columns);
    let mut tried = columns.filter(|(_, machine)| is_usual(machine) || depth == Depth::Deep);
    tried.try_for_each(|(column, _)| conformance::run(column, None, Format::Human, profile))
}
