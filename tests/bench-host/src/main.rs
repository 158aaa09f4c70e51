//! Page-table work on the host: Trivet's radix tables against other crates and against loops written by hand.
//!
//! ```text
//! cargo build --profile bench -p bench-host
//! target/release/bench-host                    nanoseconds a page: 15 rounds, medians, one pinned CPU
//! target/release/bench-host --counts           and instructions, loads and stores a page, under callgrind (valgrind)
//! target/release/bench-host --rounds 5 --only map
//! ```
//!
//! Everything is done on 1 GiB of 4 KiB pages, in one process, by turns, so that the ratios hold on a machine that is
//! busy or slow. A table for people goes to standard error; standard output has one line a figure:
//!
//! ```text
//! bench op=map subject=trivet ns=9.41 ratio=1.02
//! count op=map subject=trivet instructions=44.0 loads=9.0 stores=2.0
//! ```
//!
//! `ratio` is to `by-hand` in the same run. Single pages are handled inside a batch of 512: one walk guard of Trivet's,
//! one cursor of `page_table_multiarch`. Counts contain the loop around the operation, about six instructions.

mod arena;
mod count;
mod machine;
mod peers;
mod report;
mod run;
mod subject;
mod trivet;

use std::collections::HashMap;
use std::process::ExitCode;

use backend_ppc64::radix::PartitionScoped;
use clap::Parser;
use hv_core::host::HostFormat;
use hv_core::isa::RadixFormat;
use hv_core::machine::{CpuId, Machine};

use crate::machine::BenchMachine;
use crate::peers::{aarch64, by_hand, multiarch, x86};
use crate::run::{Competitor, Op, Table, median, timed};
use crate::subject::PAGES;
use crate::trivet::Trivet;

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
    /// Do one competitor's round and mark one operation for callgrind; what --counts runs
    #[arg(long, num_args = 2, value_names = ["OP", "SUBJECT"], hide = true)]
    count: Vec<String>,
}

/// The competitor that ratios are to.
const FLOOR: &str = "by-hand";

/// The names of all competitors, in the order of the table.
const SUBJECTS: [&str; 7] = ["x86_64", "x86_64-rwlock", "multiarch", "aarch64", FLOOR, "trivet", "trivet-ppc64"];

fn competitor(name: &str) -> Option<Box<dyn Competitor>> {
    Some(match name {
        "x86_64" => Box::new(Table(x86::Owned::new())),
        "x86_64-rwlock" => Box::new(Table(x86::Locked::new())),
        "multiarch" => Box::new(Table(multiarch::Multiarch::new())),
        "aarch64" => Box::new(Table(aarch64::Aarch64::new())),
        FLOOR => Box::new(Table(by_hand::ByHand::new())),
        "trivet" => Box::new(Table(trivet::<HostFormat>())),
        "trivet-ppc64" => Box::new(Table(trivet::<PartitionScoped>())),
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

fn all(arguments: &Arguments) -> Result<(), String> {
    let ops: Vec<Op> = Op::ALL.into_iter().filter(|op| op.name().contains(&arguments.only)).collect();
    let mut competitors: Vec<_> = SUBJECTS.iter().filter_map(|name| Some((*name, competitor(name)?))).collect();
    let mut samples: HashMap<(&str, &str), Vec<f64>> = HashMap::new();
    for _ in 0..arguments.rounds {
        for (name, one) in &mut competitors {
            one.round(&mut |op, f| {
                let ns = timed(f) / PAGES as f64;
                samples.entry((op.name(), name)).or_default().push(ns);
            });
        }
    }
    let ns = |op: Op, name: &str| samples.get(&(op.name(), name)).map_or(f64::NAN, |of| median(of.clone()));
    let figures: Vec<_> = SUBJECTS.iter().flat_map(|name| ops.iter().map(move |op| (*op, *name))).collect();
    for (op, name) in &figures {
        let ratio = ns(*op, name) / ns(*op, FLOOR);
        println!("bench op={} subject={name} ns={:.2} ratio={ratio:.2}", op.name(), ns(*op, name));
    }
    eprint!(
        "{}",
        report::table("ns a page (ratio to by-hand)", &SUBJECTS, &ops, |op, name| {
            format!("{:.1} ({:.2})", ns(op, name), ns(op, name) / ns(op, FLOOR))
        })
    );
    if arguments.counts {
        let mut counts = HashMap::new();
        for (op, name) in &figures {
            let found = count::callgrind(&["--count", op.name(), name])?;
            let [i, l, s] = [found.instructions, found.loads, found.stores].map(|n| n as f64 / PAGES as f64);
            println!("count op={} subject={name} instructions={i:.2} loads={l:.2} stores={s:.2}", op.name());
            counts.insert((op.name(), *name), format!("{i:.1} {l:.1} {s:.1}"));
        }
        eprint!(
            "{}",
            report::table("instructions, loads, stores a page", &SUBJECTS, &ops, |op, name| {
                counts.get(&(op.name(), name)).cloned().unwrap_or_default()
            })
        );
    }
    Ok(())
}
