//! `cargo xtask bench`: path lengths of a board in instructions; page-table work on the host is in `host.rs`.
//!
//! Under the board's benchmark arguments virtual time advances by one nanosecond an instruction, so the guest's counter
//! counts what every layer executes. The run is made twice; a difference means that it was not deterministic, and that
//! neither figure is worth anything.

pub mod host;
mod nested;
mod peers;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hv_core::guest::manifest::{Backing, Config, Granule, Huge, OutOfMemory, VmConfig};
use hv_core::link::LinkMode;

use crate::batch;
use crate::board::{Board, Machine};
use crate::bundle::{Image, Temporary, pack};
use crate::emulator::Launch;
use crate::error::refuse;
use crate::image::{self, Profile, Variant};
use crate::progress::step;
use crate::setup;
use peers::{ENTER_REMOVE, NESTED, Peer};

/// The counting guest's memory: its image, its present pages, and as many untouched ones.
const GUEST_MEMORY: u64 = 64 << 20;
/// Its memory where most of it is swapped out.
const SWAPPED_MEMORY: u64 = 512 << 20;
/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(300);

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

/// One run of the emulator.
struct Run {
    /// For the user.
    what: &'static str,
    /// Who counts.
    counts: Counter,
}

/// Who counts.
enum Counter {
    /// The counting guest, on the image that is shipped.
    Guest(Task),
    /// The hypervisor itself, where no guest sees what is counted.
    Own,
}

/// What the counting guest is to count, and on what machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Calls and faults.
    Faults,
    /// Stores that the dirty log notices.
    Logged,
    /// Loads from pages that were swapped out: on a machine that is smaller than the guest.
    Swapped,
    /// Calls on a hashed table, on boards that measure them.
    Hashed,
    /// Faults and calls of a guest of the counting guest, on boards whose guests may have some.
    Nested,
}

const RUNS: [Run; 6] = [
    Run { what: "counting in a guest", counts: Counter::Guest(Task::Faults) },
    Run { what: "counting in a guest with a dirty log", counts: Counter::Guest(Task::Logged) },
    Run { what: "counting in a guest that is swapped out", counts: Counter::Guest(Task::Swapped) },
    Run { what: "counting in a guest with a hashed table", counts: Counter::Guest(Task::Hashed) },
    Run { what: "counting in a guest's guest", counts: Counter::Guest(Task::Nested) },
    Run { what: "counting beneath the guests", counts: Counter::Own },
];

/// Measures a board on one of its machines.
pub fn run(board: &str, machine: Option<&str>) -> Result<()> {
    let mut board = Board::named(board)?;
    board.emulator = setup::counter(board.emulator)?;
    let machine = board.machine(machine)?;
    let peers = peers::of(&board)?;
    if machine.bochs.is_none() && board.emulator.bench_args.is_none() {
        return Err(refuse(format!("the emulator of board {} does not count instructions", board.name)));
    }
    setup::need_to_run(&board, machine)?;
    let mut figures = Vec::new();
    for run in RUNS.iter().filter(|run| run.is_for(peers)) {
        let lines = run.results(&board, machine)?;
        for line in &lines {
            println!("{line}");
        }
        let first = lines.iter().map(|line| parse(line)).collect::<Result<Vec<_>>>()?;
        let second = run.results(&board, machine)?;
        if !are_same(&first, &second.iter().map(|line| parse(line)).collect::<Result<Vec<_>>>()?) {
            bail!("the two runs differ, so the figures are worth nothing; the second one's:\n{}", second.join("\n"));
        }
        figures.extend(first);
    }
    if peers.iter().any(|peer| peer.name == NESTED) {
        nested::run(&board, machine)?;
    }
    println!("{}", table(&figures, peers));
    let missed = missed(&figures, peers);
    if missed.is_empty() { Ok(()) } else { bail!("above target: {}", missed.join(", ")) }
}

impl Run {
    /// Whether a board with these figures has it.
    fn is_for(&self, peers: &[Peer]) -> bool {
        let has = |name| peers.iter().any(|peer| peer.name == name);
        match self.counts {
            Counter::Guest(Task::Hashed) => has(ENTER_REMOVE),
            Counter::Guest(Task::Nested) => has(NESTED),
            Counter::Guest(Task::Faults | Task::Logged | Task::Swapped) | Counter::Own => true,
        }
    }

    /// The RESULT lines.
    fn results(&self, board: &Board, machine: &Machine) -> Result<Vec<String>> {
        let (variant, bundle, memory) = match self.counts {
            Counter::Guest(task) => {
                let bundle = Temporary::write("bench.tar", &guest(board, task)?)?;
                let memory = if task == Task::Swapped { board.memory_step } else { board.emulator.bench_memory };
                (Variant::Guests, Some(bundle), memory)
            }
            Counter::Own => (Variant::Figures, None, board.emulator.bench_memory),
        };
        let image = image::build(board, Profile::Release, variant)?;
        let launch = Launch {
            board,
            machine,
            args: board.emulator.bench_args.as_deref().unwrap_or_default(),
            cpus: 1,
            memory: machine.max_memory.map_or(memory, |most| most.min(memory)),
            image: &image,
            bundle: bundle.as_ref().map(Temporary::path),
        };
        let what = format!("{} on {} ({})", self.what, board.name, machine.name);
        let written = step(&what, || batch::run(&launch, LIMIT))?;
        if !written.status.success() {
            bail!("{what} ended with {}; its last lines:\n{}", written.status, written.lines.join("\n"));
        }
        let results: Vec<String> = written.lines.iter().filter(|line| line.starts_with("RESULT ")).cloned().collect();
        if results.is_empty() {
            bail!("{what} printed no RESULT line; its last lines:\n{}", written.lines.join("\n"));
        }
        Ok(results)
    }
}

/// A bundle with the counting guest alone.
fn guest(board: &Board, task: Task) -> Result<Vec<u8>> {
    let (memory, cmdline) = match task {
        Task::Faults => (GUEST_MEMORY, ""),
        Task::Logged => (GUEST_MEMORY, "logged"),
        Task::Swapped => (SWAPPED_MEMORY, "swapped"),
        Task::Hashed => (GUEST_MEMORY, "disable_radix hashed"),
        Task::Nested => (GUEST_MEMORY, "nested"),
    };
    let guest = Image { member: "guest-bench".to_owned(), file: image::guest(board, "bench")? };
    let vm = VmConfig {
        name: "bench".to_owned(),
        vcpus: 1,
        memory,
        backing: Backing::Anon,
        huge: Huge::Never,
        granule: Granule::Page,
        shared: None,
        swap: true,
        out_of_memory: OutOfMemory::Stop,
        dirty_log: task == Task::Logged,
        nested: task == Task::Nested,
        kernel: guest.member.clone(),
        initrd: None,
        cmdline: cmdline.to_owned(),
    };
    pack(&Config { link: LinkMode::Plain, vms: vec![vm] }, &[guest])
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

/// Whether two runs count the same: the least and the median to an instruction, the highest hundredth to a hundredth, because
/// in it are ticks of the host's timer, wherever they fall. Of the boot firmware's part is counted too, and some asks a clock
/// that nobody stops (powernv's its BMC): a thousandth of it is not looked at.
fn are_same(first: &[Figure], second: &[Figure]) -> bool {
    let near = |one: u64, other: u64, part: u64| one.abs_diff(other) <= one / part;
    let same = |(one, other): (&Figure, &Figure)| match &*one.name {
        "boot" => other.name == one.name && near(one.med, other.med, 1000),
        _ => {
            let exact = |figure: &Figure| (figure.name.clone(), figure.n, figure.min, figure.med);
            exact(one) == exact(other) && near(one.p99, other.p99, 100)
        }
    };
    first.len() == second.len() && first.iter().zip(second).all(same)
}

fn table(figures: &[Figure], peers: &[Peer]) -> String {
    let head = format!(
        "{:34} {:>10} {:>10} {:>6} {:>7} {:>10}",
        "instructions, median", "Trivet", "KVM", "ratio", "target", "p99"
    );
    let dash = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let rows = figures.iter().map(|figure| {
        let peer = peers.iter().find(|peer| peer.name == figure.name);
        let kvm = peer.and_then(|peer| peer.kvm);
        let ratio = kvm.map_or("-".to_owned(), |kvm| format!("{}%", figure.med.saturating_mul(100) / kvm));
        let (about, target) = peer.map_or((&*figure.name, None), |peer| (peer.about, peer.target));
        let (kvm, target) = (dash(kvm), dash(target));
        format!("{about:34} {:>10} {kvm:>10} {ratio:>6} {target:>7} {:>10}", figure.med, figure.p99)
    });
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}

/// Figures above their targets, and targets without a figure.
fn missed(figures: &[Figure], peers: &[Peer]) -> Vec<String> {
    let judge = |peer: &Peer| match figures.iter().find(|figure| figure.name == peer.name) {
        None => Some(format!("{} was not measured", peer.name)),
        Some(figure) => {
            let target = peer.target.filter(|target| figure.med > *target)?;
            Some(format!("{} {} (at most {target})", peer.name, figure.med))
        }
    };
    peers.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::peers::PSERIES;
    use super::{are_same, missed, parse, table};

    #[test]
    fn runs_are_the_same_but_for_a_little_of_the_boot() {
        let figure =
            |name: &str, med: u64| parse(&format!("RESULT {name} n 1 min 1 med {med} mean 3 p99 4 max 5")).unwrap();
        let run = |boot, call| [figure("boot", boot), figure("hypercall", call)];
        assert!(are_same(&run(5000, 100), &run(5000, 100)) && are_same(&run(5000, 100), &run(5005, 100)));
        for other in [run(5006, 100), run(4000, 100), run(5000, 101)] {
            assert!(!are_same(&run(5000, 100), &other));
        }
        assert!(!are_same(&run(5000, 100), &run(5000, 100)[..1]) && !are_same(&[], &run(5000, 100)));
        let late =
            |p99: u64| [parse(&format!("RESULT swap-in n 9 min 1 med 2 mean {p99} p99 {p99} max {p99}")).unwrap()];
        assert!(are_same(&late(4517), &late(4515)) && !are_same(&late(4517), &late(4565)));
    }

    #[test]
    fn lines_are_read_and_judged() {
        let line = |name: &str, med: u64| format!("RESULT {name} n 100 min 1 med {med} mean 3 p99 4 max 5");
        let figures: Vec<_> = [("boot", 9), ("hypercall", 590), ("fault-present", 900), ("fault-fresh", 3001)]
            .map(|(n, m)| parse(&line(n, m)).unwrap())
            .into();
        assert_eq!((figures[0].n, figures[0].max), (100, 5));
        assert_eq!(missed(&figures, &PSERIES).first().map(String::as_str), Some("fault-fresh 3001 (at most 3000)"));
        let missing = missed(&figures[..1], &PSERIES);
        assert_eq!(missing.len(), PSERIES.len() - 1);
        assert!(missing.iter().all(|line| line.ends_with(" was not measured")), "{missing:?}");
        let table = table(&figures, &PSERIES);
        assert!(table.contains("null hypercall, guest to guest            590       2027    29%     600"), "{table}");
        assert!(parse("RESULT x n 1").is_err() && parse(&line("x", 1).replace("med 1", "med 1.5")).is_err());
    }
}
