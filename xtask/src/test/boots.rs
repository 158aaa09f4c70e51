//! Runs of `cargo xtask run` and what they must do: status, output, the one line that says why.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::Depth;
use crate::board::Board;
use crate::image::Profile;
use crate::workspace;

/// One run and what is expected of it.
pub(super) struct Boot {
    pub name: &'static str,
    /// On which boards it is tried for every change.
    pub usual: Usual,
    /// Arguments after `run --board B`.
    pub args: &'static [&'static str],
    pub status: i32,
    /// Lines that stdout must have, in this order; others may stand in between. [`UNAME`] is the board's.
    pub stdout: &'static [&'static str],
    /// What the last `error:` line must contain.
    pub error: &'static str,
}

/// Which boards a boot says something about that it does not say about others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Usual {
    /// Each: it goes by what an instruction set has of its own.
    Everywhere,
    /// Those on which everything is tried ([`super::is_whole`]).
    Whole,
}

/// Stands for what `uname -m` says in the board's guests.
pub(super) const UNAME: &str = "(uname -m)";

/// Guests that must work.
const GOOD: &[Boot] = &[
    Boot {
        name: "one guest",
        usual: Usual::Everywhere,
        args: &[
            "--exec",
            "uname -m",
            "--exec",
            "nproc",
            "--exec",
            "cat /proc/cpuinfo /proc/meminfo | wc -l",
            "--exec",
            "cd /sys",
            "--exec",
            "pwd",
        ],
        status: 0,
        stdout: &[UNAME, "2", "/sys"],
        error: "",
    },
    Boot {
        name: "order and quoting",
        usual: Usual::Whole,
        args: &[
            "--exec",
            "echo \"it's\"",
            "--monitor",
            "list",
            "--exec",
            "if then",
            "--exec",
            "cat",
            "--exec",
            "echo last",
        ],
        status: 1,
        stdout: &["it's", "last"],
        error: "not every command succeeded",
    },
    Boot {
        name: "a failing command",
        usual: Usual::Whole,
        args: &["--exec", "false"],
        status: 1,
        stdout: &[],
        error: "not every command succeeded",
    },
    Boot {
        name: "two guests on two CPUs",
        usual: Usual::Everywhere,
        args: &[
            "--guests",
            "xtask/manifests/two.toml",
            "--exec",
            "a:hostname first; nproc",
            "--exec",
            "b:hostname second; nproc",
            "--exec",
            "a:hostname",
            "--exec",
            "b:hostname",
        ],
        status: 0,
        stdout: &["2", "2", "first", "second"],
        error: "",
    },
    Boot {
        name: "a spinning guest starves nobody",
        usual: Usual::Whole,
        args: &[
            "--guests",
            "xtask/manifests/two.toml",
            "--exec",
            "a:for i in 1 2; do (while :; do :; done) & done",
            "--exec",
            "b:s=$(cut -d. -f1 /proc/uptime); sleep 2; e=$(cut -d. -f1 /proc/uptime); [ $((e - s)) -ge 2 ] && [ $((e - s)) -le 3 ] && echo fair",
        ],
        status: 0,
        stdout: &["fair"],
        error: "",
    },
    Boot {
        name: "a guest larger than the machine",
        usual: Usual::Whole,
        args: &[
            "--memory",
            "1GiB",
            "--guests",
            "xtask/manifests/large.toml",
            "--exec",
            "grep -q 'MemTotal:  *20' /proc/meminfo && echo large",
            "--monitor",
            "memory",
        ],
        status: 0,
        stdout: &["large"],
        error: "",
    },
    Boot {
        name: "four virtual CPUs on two CPUs",
        usual: Usual::Everywhere,
        args: &["--guests", "xtask/manifests/four.toml", "--exec", "uname -m", "--exec", "nproc"],
        status: 0,
        stdout: &[UNAME, "4"],
        error: "",
    },
    Boot {
        name: "eight CPUs",
        usual: Usual::Everywhere,
        args: &["--cpus", "8", "--guests", "xtask/manifests/eight.toml", "--exec", "nproc"],
        status: 0,
        stdout: &["8"],
        error: "",
    },
];

/// Runs that must fail and say which failure it was.
const FAILING: &[Boot] = &[
    Boot {
        name: "guest kernel panic",
        usual: Usual::Everywhere,
        args: &["--exec", "echo c > /proc/sysrq-trigger"],
        status: 1,
        stdout: &[],
        error: "guest kernel panic in linux",
    },
    Boot {
        name: "shell never reached",
        usual: Usual::Whole,
        args: &["--timeout", "1", "--exec", "true"],
        status: 1,
        stdout: &[],
        error: "within 1 s (--timeout)",
    },
];

/// Only where the monitor has the command.
const FAILING_DEV: &[Boot] = &[Boot {
    name: "panic of Trivet",
    usual: Usual::Everywhere,
    args: &["--monitor", "panic"],
    status: 1,
    stdout: &[],
    error: "Trivet panicked",
}];

/// What is refused before anything boots.
const REFUSED: &[Boot] = &[
    refusal("missing kernel", &["--kernel", "no/such/kernel"], "cannot read no/such/kernel"),
    refusal("no kernel", &["--kernel", "Cargo.toml"], "no 64-bit ELF file"),
    refusal("missing manifest", &["--guests", "no/such.toml"], "cannot read no/such.toml"),
    refusal(
        "unknown key",
        &["--guests", "xtask/manifests/bad/unknown-key.toml"],
        "unknown-key.toml:3: unknown field `vcpu`",
    ),
    refusal("zero vCPUs", &["--guests", "xtask/manifests/bad/no-vcpus.toml"], "no-vcpus.toml:3: 0 vCPUs"),
    refusal("odd memory", &["--guests", "xtask/manifests/bad/odd-memory.toml"], "odd-memory.toml:4: memory"),
    refusal("absurd memory", &["--guests", "xtask/manifests/bad/absurd-memory.toml"], "absurd-memory.toml:3: memory"),
    refusal("twins", &["--guests", "xtask/manifests/bad/twins.toml"], "twins.toml:5: a second VM"),
    refusal("images too large", &["--guests", "xtask/manifests/bad/small.toml"], "do not fit into 64 MiB"),
    refusal("no CPUs", &["--cpus", "0"], "1 to 8 CPUs"),
    refusal("odd machine memory", &["--memory", "64MiB"], "multiples of"),
    refusal("absurd machine memory", &["--memory", "9999TiB"], "--memory"),
    refusal("unknown VM", &["--exec", "linus:true"], "did you mean \"linux\"?"),
    refusal("no time", &["--timeout", "0", "--exec", "true"], "--timeout 0"),
];

const fn refusal(name: &'static str, args: &'static [&'static str], error: &'static str) -> Boot {
    Boot { name, usual: Usual::Everywhere, args, status: 2, stdout: &[], error }
}

/// Guests that must work, on these boards.
pub fn good(profile: Profile, depth: Depth, boards: &[Board]) -> Result<()> {
    all(boards, depth, GOOD, &["--profile", profile.name()])
}

/// Failures that must be told apart, on these boards.
pub fn failing(profile: Profile, depth: Depth, boards: &[Board]) -> Result<()> {
    all(boards, depth, FAILING, &["--profile", profile.name()])?;
    match profile {
        Profile::Dev => all(boards, depth, FAILING_DEV, &["--profile", profile.name()]),
        Profile::Release => Ok(()),
    }
}

/// Bad input, and a wrong board.
pub fn refused(depth: Depth) -> Result<()> {
    let boards = Board::all()?;
    all(&boards, depth, REFUSED, &[])?;
    for board in &boards {
        machine_typo(board)?;
    }
    check_on("psereis", &refusal("unknown board", &[], "did you mean \"pseries\"?"), &[], "")
}

/// The name of the board's first machine with a letter too many.
fn machine_typo(board: &Board) -> Result<()> {
    const UNKNOWN: Boot = refusal("unknown machine", &[], "did you mean \"");
    let typo = format!("{}x", board.default_machine);
    check(board, &UNKNOWN, &["--machine", &typo])
}

/// Each machine of each board boots a guest.
pub fn machines(depth: Depth) -> Result<()> {
    const ONE: Boot = Boot {
        name: "a guest on this machine",
        usual: Usual::Everywhere,
        args: &["--exec", "uname -m"],
        status: 0,
        stdout: &[UNAME],
        error: "",
    };
    const EIGHT: Boot = Boot {
        name: "eight CPUs on this machine",
        usual: Usual::Everywhere,
        args: &["--cpus", "8", "--guests", "xtask/manifests/eight.toml", "--exec", "nproc"],
        status: 0,
        stdout: &["8"],
        error: "",
    };
    for board in Board::all()? {
        for machine in board.machines.iter().filter(|machine| machine.name != board.default_machine) {
            if depth == Depth::Usual && !super::is_usual(machine) {
                continue;
            }
            println!("{}", machine.name);
            let boot = if depth == Depth::Deep && board.max_cpus(machine) == 8 { &EIGHT } else { &ONE };
            check(&board, boot, &["--machine", &machine.name])?;
        }
    }
    Ok(())
}

/// Tries every boot; goes on after a failure.
pub(super) fn all(boards: &[Board], depth: Depth, boots: &[Boot], more: &[&str]) -> Result<()> {
    let mut failed = Vec::new();
    for board in boards {
        println!("{}", board.name);
        let is_usual = |boot: &&Boot| boot.usual == Usual::Everywhere || super::is_whole(board, depth);
        for boot in boots.iter().filter(is_usual) {
            if let Err(error) = check(board, boot, more) {
                println!("FAILED: {error:#}");
                failed.push(format!("{} on {}", boot.name, board.name));
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join(", ")) }
}

fn check(board: &Board, boot: &Boot, more: &[&str]) -> Result<()> {
    check_on(&board.name, boot, more, &board.guest.uname)
}

fn check_on(board: &str, boot: &Boot, more: &[&str], uname: &str) -> Result<()> {
    let begun = Instant::now();
    let mut xtask = Command::new(std::env::current_exe().context("cannot find this program")?);
    xtask.current_dir(workspace::root()).args(["run", "--board", board]).args(boot.args).args(more);
    let out = xtask.output().context("cannot run this program")?;
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let wrong = |what: String| {
        let tail = stderr.lines().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
        anyhow::anyhow!("{}: {what}\n--- stdout:\n{stdout}--- stderr:\n{tail}", boot.name)
    };
    if out.status.code() != Some(boot.status) {
        return Err(wrong(format!("{}, expected status {}", out.status, boot.status)));
    }
    let mut lines = stdout.lines();
    let wanted = boot.stdout.iter().map(|line| if *line == UNAME { uname } else { line });
    if let Some(missing) = wanted.into_iter().find(|wanted| !lines.any(|line| line == *wanted)) {
        return Err(wrong(format!("no line {missing:?}")));
    }
    let error = stderr.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
    if boot.error.is_empty() != error.is_empty() || !error.contains(boot.error) {
        return Err(wrong(format!("the error line is {error:?}, expected {:?} in it", boot.error)));
    }
    println!("ok {:6.1} s  {}", begun.elapsed().as_secs_f64(), boot.name);
    Ok(())
}
