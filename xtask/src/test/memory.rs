//! What guests show of memory management: huge pages, memory that two of them share, memory above a hole.
//!
//! Each run ends with the monitor's `memory`, whose second and third tables say how each VM's memory is mapped.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::Depth;
use crate::board::{Board, Machine};
use crate::image::Profile;
use crate::tables::row;
use crate::units::Size;
use crate::workspace;

/// Where both guests of `shared.toml` find what they share.
const WINDOW: u64 = 1 << 30;
/// Small pages in a huge one.
const TEAM: u64 = 512;

/// Runs the demonstrations: memory above a hole where there is one, the others on the boards on which everything is tried,
/// and, deeper, huge pages on Bochs's processors too, which have tables that QEMU's have not.
pub fn run(profile: Profile, depth: Depth) -> Result<()> {
    for board in &Board::all()? {
        let usual = board.machine(None)?;
        if super::is_whole(board, depth) {
            let deeper = board.machines.iter().filter(|machine| depth == Depth::Deep && !super::is_usual(machine));
            std::iter::once(usual).chain(deeper).try_for_each(|machine| huge(board, machine, profile))?;
            shared(board, usual, profile)?;
        }
        if board.guest.architecture == "amd64" {
            above(board, usual, profile)?;
        }
    }
    Ok(())
}

/// A guest touches nine tenths of its memory; more than that much of it is mapped by 2 MiB leaves.
fn huge(board: &Board, machine: &Machine, profile: Profile) -> Result<()> {
    let begun = Instant::now();
    // What the kernel took for itself it has touched already; a file system in memory takes nearly all that is left.
    let fill = "mkdir /fill && mount -t tmpfs -o size=100% none /fill && \
                free=$(sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo) && \
                dd if=/dev/zero of=/fill/file bs=1M count=$((free / 1024 - 16)) 2>/dev/null && echo filled";
    let text = trivet(board, machine, profile, "xtask/manifests/huge.toml", &["--exec", fill, "--monitor", "memory"])?;
    let row = row(&text, "a");
    let (memory, resident, in_2m) = (row.bytes("MEMORY")?, row.bytes("RESIDENT")?, row.bytes("IN 2M")?);
    let share = in_2m / memory;
    if !text.contains("filled") || resident < 0.9 * memory || share <= 0.9 {
        bail!(
            "{:.1} % of the guest's memory is mapped by 2 MiB leaves, more than 90 % was wanted:\n{text}",
            100.0 * share
        );
    }
    println!(
        "ok {:6.1} s  huge pages on {}: {:.1} % of {} mapped by 2 MiB leaves",
        begun.elapsed().as_secs_f64(),
        machine.name,
        100.0 * share,
        Size(memory as u64)
    );
    Ok(())
}

/// Two guests see each other's writes in memory that is huge in one and small in the other.
fn shared(board: &Board, machine: &Machine, profile: Profile) -> Result<()> {
    let begun = Instant::now();
    let touch = format!(
        "a:n=0; while [ $n -lt {TEAM} ]; do devmem $(({WINDOW} + n * 4096)) 64 $((n + 1)) || break; n=$((n + 1)); done; echo $n"
    );
    let read = |vm: &str, page: u64| format!("{vm}:devmem $(({WINDOW} + {page} * 4096)) 64");
    let (last, first) = (read("b", TEAM - 1), read("b", 0));
    let write = format!("b:devmem $(({WINDOW} + 7 * 4096)) 64 0xb0b");
    let back = read("a", 7);
    let steps = ["--exec", &touch, "--exec", &first, "--exec", &last, "--exec", &write, "--exec", &back];
    let manifest = "xtask/manifests/shared.toml";
    let text = trivet(board, machine, profile, manifest, &[&steps[..], &["--monitor", "memory"]].concat())?;
    let words: Vec<u64> =
        text.lines().filter_map(|line| u64::from_str_radix(line.trim().strip_prefix("0x")?, 16).ok()).collect();
    if words != [1, TEAM, 0xb0b] {
        bail!("the guests do not see each other's writes: {words:#x?}\n{text}");
    }
    let (a, b) = (row(&text, "a"), row(&text, "b"));
    let teams = a.number("TEAMS")?;
    let (huge, small) = (a.bytes("IN 2M")?, b.bytes("IN 2M")?);
    if teams == 0 || huge == 0.0 || small != 0.0 {
        bail!("{teams} teams, {huge} bytes huge in a, {small} in b; wanted at least one, some and none:\n{text}");
    }
    println!(
        "ok {:6.1} s  shared memory: {teams} teams, huge in a, small in b, both see both's writes",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// RAM goes on above x86's hole, and the shared window behind it.
fn above(board: &Board, machine: &Machine, profile: Profile) -> Result<()> {
    let begun = Instant::now();
    let manifest = "xtask/manifests/above.toml";
    let steps = [
        "--exec",
        "grep RAM /proc/iomem",
        "--exec",
        "devmem 0x180000000 64 0x74726976 && devmem 0x180000000 64",
        "--monitor",
        "memory map",
    ];
    let text = trivet(board, machine, profile, manifest, &steps)?;
    let wanted = [
        "-bfffffff : System RAM",
        "100000000-17fffffff : System RAM",
        "0x0000000074726976",
        "above: memory, 3072.0 MiB",
        "above: memory above the hole, 2048.0 MiB",
        "above: shared window, 16.0 MiB",
    ];
    if let Some(missing) = wanted.iter().find(|wanted| !text.contains(**wanted)) {
        bail!("no {missing:?} from a guest with RAM above the hole:\n{text}");
    }
    println!("ok {:6.1} s  memory above the hole: 3 GiB below, 2 GiB above", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Standard output of a run that must end well.
fn trivet(board: &Board, machine: &Machine, profile: Profile, manifest: &str, steps: &[&str]) -> Result<String> {
    let mut xtask = Command::new(std::env::current_exe().context("cannot find this program")?);
    xtask.current_dir(workspace::root()).args(["run", "--board", &board.name, "--machine", &machine.name]);
    xtask.args(["--profile", profile.name()]);
    let out = xtask.args(["--guests", manifest]).args(steps).output().context("cannot run this program")?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        let stderr = String::from_utf8_lossy(&out.stderr);
        let tail = stderr.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
        bail!("{manifest}: {}\n--- stdout:\n{stdout}--- stderr:\n{tail}", out.status);
    }
    Ok(stdout)
}
