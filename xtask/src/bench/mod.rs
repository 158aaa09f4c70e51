//! `cargo xtask bench`: path lengths of a board in instructions; page-table work on the host is in `host.rs`.
//!
//! Under the board's benchmark arguments virtual time advances by one nanosecond an instruction, so the guest's counter
//! counts what every layer executes. The run is made twice; a difference means that it was not deterministic, and that
//! neither figure is worth anything.

pub mod host;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hv_core::guest::manifest::{Backing, Config, Huge, OutOfMemory, VmConfig};
use hv_core::link::LinkMode;

use crate::batch;
use crate::board::Board;
use crate::bundle::{Image, Temporary, pack};
use crate::emulator::Launch;
use crate::image::{self, Profile, Variant};
use crate::progress::step;
use crate::setup;

/// The counting guest's memory: its image, its present pages, and as many untouched ones.
const GUEST_MEMORY: u64 = 64 << 20;
/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(300);

/// What a figure is measured against, in instructions.
struct Peer {
    /// The figure's name on its RESULT line.
    name: &'static str,
    /// What it is.
    about: &'static str,
    /// KVM on the same machine (median).
    kvm: u64,
    /// At most this; `None`: no limit yet.
    target: Option<u64>,
}

/// The figures of the pseries board.
const PSERIES: [Peer; 3] = [
    Peer { name: "hypercall", about: "null hypercall, guest to guest", kvm: 2027, target: Some(600) },
    Peer { name: "fault-present", about: "stage-2 fault, page present", kvm: 3467, target: None },
    Peer { name: "fault-fresh", about: "stage-2 fault, fresh 4K page", kvm: 8225, target: Some(3000) },
];

/// One RESULT line.
#[derive(Debug, PartialEq, Eq)]
struct Figure {
    name: String,
    n: u64,
    min: u64,
    med: u64,
    mean: u64,
    p99: u64,
    max: u64,
}

/// Measures a board.
pub fn run(board: &str) -> Result<()> {
    let board = Board::named(board)?;
    setup::need_to_run(&board)?;
    // The image that is shipped, and as its only guest the program that counts.
    let image = image::build(&board, Profile::Release, Variant::Guests)?;
    let guest = Image { member: "guest-bench".to_owned(), file: image::guest(&board, "bench")? };
    let vm = VmConfig {
        name: "bench".to_owned(),
        vcpus: 1,
        memory: GUEST_MEMORY,
        backing: Backing::Anon,
        huge: Huge::Never,
        shared: None,
        swap: true,
        out_of_memory: OutOfMemory::Stop,
        dirty_log: false,
        kernel: guest.member.clone(),
        initrd: None,
        cmdline: String::new(),
    };
    let config = Config { link: LinkMode::Plain, vms: vec![vm] };
    let bundle = Temporary::write("bench.tar", &pack(&config, &[guest])?)?;
    let launch = Launch {
        board: &board,
        machine: board.machine(None)?,
        args: &board.emulator.bench_args,
        cpus: 1,
        memory: board.emulator.bench_memory,
        image: &image,
        bundle: Some(bundle.path()),
    };
    let mut runs = Vec::new();
    for run in ["first", "second"] {
        let written = step(&format!("{run} run on {}", board.name), || batch::run(&launch, LIMIT))?;
        if !written.status.success() {
            bail!("the benchmark ended with {}; its last lines:\n{}", written.status, written.lines.join("\n"));
        }
        let results: Vec<String> = written.lines.into_iter().filter(|line| line.starts_with("RESULT ")).collect();
        runs.push(results);
    }
    let (Some(second), Some(first)) = (runs.pop(), runs.pop()) else { bail!("there were no two runs") };
    if first.is_empty() {
        bail!("the benchmark printed no RESULT line");
    }
    for line in &first {
        println!("{line}");
    }
    if first != second {
        bail!("the two runs differ, so the figures are worth nothing; the second one's:\n{}", second.join("\n"));
    }
    let figures = first.iter().map(|line| parse(line)).collect::<Result<Vec<_>>>()?;
    println!("{}", table(&figures));
    let missed = missed(&figures);
    if missed.is_empty() { Ok(()) } else { bail!("above target: {}", missed.join(", ")) }
}

fn parse(line: &str) -> Result<Figure> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["RESULT", name, "n", n, "min", min, "med", med, "mean", mean, "p99", p99, "max", max] = words[..] else {
        bail!("not of the form of a result: {line}");
    };
    let number = |text: &str| text.parse().with_context(|| format!("{text:?} in {line:?} is no whole number"));
    Ok(Figure {
        name: name.to_owned(),
        n: number(n)?,
        min: number(min)?,
        med: number(med)?,
        mean: number(mean)?,
        p99: number(p99)?,
        max: number(max)?,
    })
}

fn table(figures: &[Figure]) -> String {
    let head = format!(
        "{:32} {:>7} {:>7} {:>7} {:>7} {:>8}",
        "instructions, median", "Trivet", "KVM", "ratio", "target", "p99"
    );
    let rows = figures.iter().map(|figure| match PSERIES.iter().find(|peer| peer.name == figure.name) {
        Some(peer) => {
            let percent = figure.med.saturating_mul(100) / peer.kvm;
            let target = peer.target.map_or("-".to_owned(), |target| target.to_string());
            format!(
                "{:32} {:>7} {:>7} {:>6}% {:>7} {:>8}",
                peer.about, figure.med, peer.kvm, percent, target, figure.p99
            )
        }
        None => format!("{:32} {:>7} {:>7} {:>7} {:>7} {:>8}", figure.name, figure.med, "-", "-", "-", figure.p99),
    });
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}

/// Figures above their targets, and targets without a figure.
fn missed(figures: &[Figure]) -> Vec<String> {
    let judge = |peer: &Peer| match figures.iter().find(|figure| figure.name == peer.name) {
        None => Some(format!("{} was not measured", peer.name)),
        Some(figure) => {
            let target = peer.target.filter(|target| figure.med > *target)?;
            Some(format!("{} {} (at most {target})", peer.name, figure.med))
        }
    };
    PSERIES.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::{missed, parse, table};

    #[test]
    fn lines_are_read_and_judged() {
        let line = |name: &str, med: u64| format!("RESULT {name} n 100 min 1 med {med} mean 3 p99 4 max 5");
        let figures: Vec<_> = [("hypercall", 590), ("fault-present", 900), ("fault-fresh", 3001)]
            .map(|(n, m)| parse(&line(n, m)).unwrap())
            .into();
        assert_eq!((figures[0].n, figures[0].max), (100, 5));
        assert_eq!(missed(&figures), ["fault-fresh 3001 (at most 3000)"]);
        assert_eq!(missed(&figures[..1]), ["fault-present was not measured", "fault-fresh was not measured"]);
        assert!(table(&figures).contains("null hypercall, guest to guest       590    2027     29%     600"));
        assert!(parse("RESULT x n 1").is_err() && parse(&line("x", 1).replace("med 1", "med 1.5")).is_err());
    }
}
