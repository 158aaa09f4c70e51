//! Page-table work on the host: Trivet's radix tables against other crates and against loops written by hand.
//!
//! ```text
//! cargo build --profile bench -p bench-host
//! target/release/bench-host                    nanoseconds a page: 15 rounds, medians, one pinned CPU
//! target/release/bench-host --counts           and instructions, loads and stores a page, under callgrind (valgrind)
//! target/release/bench-host --check            counts what has a limit (limits.rs); fails if one is exceeded
//! target/release/bench-host --rounds 5 --only map
//! ```
//!
//! Tables are measured with 1 GiB of 4 KiB pages, in one process, by turns, and time is the thread's own, so that ratios
//! hold on a machine that is busy or slow. What only Trivet does (faults, sections, splits) is measured on a VM of 64 MiB. A table for people goes to standard error; standard output has one line a figure:
//!
//! ```text
//! bench op=map subject=trivet ns=9.41 ratio=1.02
//! count op=map subject=trivet instructions=44.0 loads=9.0 stores=2.0
//! ```
//!
//! `ratio` is to `by-hand` in the same run. Single pages are handled inside a batch of 512: one walk guard of Trivet's,
//! one cursor of `page_table_multiarch`. Counts contain the loop around the operation, about six instructions.

mod count;
mod limits;
mod peers;
mod report;
mod run;
mod subject;
mod trivet;
mod vm;

use std::collections::HashMap;
use std::process::ExitCode;

use backend_ppc64::radix::PartitionScoped;
use bench_host::machine::BenchMachine;
use clap::Parser;
use hv_core::host::HostFormat;
use hv_core::isa::RadixFormat;
use hv_core::machine::{CpuId, Machine};

use crate::peers::{aarch64, by_hand, multiarch, x86};
use crate::run::{Competitor, Op, Table, median, timed};
use crate::trivet::Trivet;
use crate::vm::Vm;

/// What a machine of Trivet's has for tables.
const RAM: usize = 64 << 20;

/// Page-table work on the host, beside other crates and loops written by hand.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How often everything is done; medians are printed
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Only operations whose names contain this
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,
    /// Count instructions under callgrind as well
    #[arg(long)]
    counts: bool,
    /// Count what has a limit, and fail if one is exceeded
    #[arg(long)]
    check: bool,
    /// Do one competitor's round and mark one operation for callgrind; what --counts runs
    #[arg(long, num_args = 2, value_names = ["OP", "SUBJECT"], hide = true)]
    count: Vec<String>,
}

/// The competitor that ratios are to.
const FLOOR: &str = "by-hand";

/// The names of all tables, in the order in which they are printed.
const TABLES: [&str; 7] = ["x86_64", "x86_64-rwlock", "multiarch", "aarch64", FLOOR, "trivet", "trivet-ppc64"];
/// The VM that does what only Trivet does.
const VM: &str = "trivet-vm";

fn competitor(name: &str) -> Option<Box<dyn Competitor>> {
    Some(match name {
        "x86_64" => Box::new(Table(x86::Owned::new())),
        "x86_64-rwlock" => Box::new(Table(x86::Locked::new())),
        "multiarch" => Box::new(Table(multiarch::Multiarch::new())),
        "aarch64" => Box::new(Table(aarch64::Aarch64::new())),
        FLOOR => Box::new(Table(by_hand::ByHand::new())),
        "trivet" => Box::new(Table(trivet::<HostFormat>())),
        "trivet-ppc64" => Box::new(Table(trivet::<PartitionScoped>())),
        VM => Box::new(Vm::new()),
        _ => return None,
    })
}

/// A table of Trivet's, on a machine of its own.
fn trivet<F: RadixFormat>() -> Trivet<F> {
    let machine: &'static BenchMachine = Box::leak(Box::new(BenchMachine::new(RAM)));
    let cpu = machine.epoch().cpu(CpuId(0)).expect("the machine's first CPU");
    Trivet::new(cpu, machine)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    pin();
    let done = match &arguments.count[..] {
        [op, subject] => count_one(op, subject),
        _ => all(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-host: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Stays on the CPU that it is on.
#[expect(unsafe_code, reason = "a system call")]
fn pin() {
    // SAFETY: the set is a plain value of the size that is given, and sched_setaffinity only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu().max(0) as usize, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

fn count_one(op: &str, subject: &str) -> Result<(), String> {
    let mut one = competitor(subject).ok_or_else(|| format!("no competitor is called {subject}"))?;
    one.round(&mut |at, f| if at.name() == op { count::bench_counted(f) } else { f() });
    Ok(())
}

/// One figure: an operation, and who does it.
type Key = (Op, &'static str);

fn all(arguments: &Arguments) -> Result<(), String> {
    let wanted = |op: &Op| op.name().contains(&arguments.only);
    let tables = TABLES.iter().flat_map(|name| Op::TABLES.map(|op| (op, *name)));
    let keys: Vec<Key> = tables.chain(Op::VM.map(|op| (op, VM))).filter(|(op, _)| wanted(op)).collect();
    if keys.is_empty() {
        return Err(format!("no operation's name contains {}", arguments.only));
    }
    let ns = nanoseconds(&keys, arguments.rounds);
    let ratio = |op: Op, name| ns.get(&(op, name)).zip(ns.get(&(op, FLOOR))).map(|(own, floor)| own / floor);
    for ((op, name), ns) in keys.iter().filter_map(|key| Some((key, ns.get(key)?))) {
        let ratio = ratio(*op, name).map(|ratio| format!(" ratio={ratio:.2}")).unwrap_or_default();
        println!("bench op={} subject={name} ns={ns:.2}{ratio}", op.name());
    }
    report::print("ns, and the ratio to by-hand", &keys, |key| {
        let ratio = ratio(key.0, key.1).map(|ratio| format!(" ({ratio:.2})")).unwrap_or_default();
        Some(format!("{:.1}{ratio}", ns.get(&key)?))
    });
    if !arguments.counts && !arguments.check {
        return Ok(());
    }
    let mut counts = HashMap::new();
    for (op, name) in keys.iter().filter(|(op, name)| !arguments.check || limits::of(*op, name).is_some()) {
        let found = count::callgrind(&["--count", op.name(), name])?;
        let [i, l, s] = [found.instructions, found.loads, found.stores].map(|n| n as f64 / op.times() as f64);
        println!("count op={} subject={name} instructions={i:.2} loads={l:.2} stores={s:.2}", op.name());
        counts.insert((*op, *name), [i, l, s]);
    }
    report::print("instructions, loads, stores", &keys, |key| {
        counts.get(&key).map(|[i, l, s]| format!("{i:.1} {l:.1} {s:.1}"))
    });
    if arguments.check { limits::check(&counts) } else { Ok(()) }
}

/// The medians of all rounds. Competitors take turns.
fn nanoseconds(keys: &[Key], rounds: usize) -> HashMap<Key, f64> {
    let names: Vec<&str> =
        TABLES.into_iter().chain([VM]).filter(|name| keys.iter().any(|key| key.1 == *name)).collect();
    let mut competitors: Vec<_> = names.iter().filter_map(|name| Some((*name, competitor(name)?))).collect();
    let mut samples: HashMap<Key, Vec<f64>> = HashMap::new();
    for _ in 0..rounds {
        for (name, one) in &mut competitors {
            one.round(&mut |op, f| {
                samples.entry((op, name)).or_default().push(timed(f) / op.times() as f64);
            });
        }
    }
    samples.into_iter().map(|(key, of)| (key, median(of))).collect()
}
