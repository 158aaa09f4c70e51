//! `cargo xtask doctor`: what is there and what is missing, without changing anything.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::board::Board;
use crate::setup::{self, Tool, toolchain};
use crate::{guests, process, workspace};

/// One line of the table.
struct Finding {
    what: String,
    /// What was found, or else how to get it.
    state: Result<String, String>,
}

/// Prints the table; fails if something is missing.
pub fn run() -> Result<()> {
    let mut findings = vec![rust(), sources(), component("fmt", "rustfmt"), component("clippy", "clippy")];
    findings.push(tool(&setup::linker()));
    findings.extend(setup::guest_tools().iter().map(tool));
    findings.push(tool(&setup::callgrind()));
    for board in Board::all()? {
        println!("board {}: {}", board.name, board.about);
        let mut tools: Vec<Tool> = Vec::new();
        for needed in board.machines.iter().flat_map(|machine| setup::emulator(&board, machine)) {
            if !tools.contains(&needed) {
                tools.push(needed);
            }
        }
        findings.extend(tools.iter().map(tool));
        findings.push(guest(&board)?);
    }
    let widest = findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    for finding in &findings {
        let (mark, text) = match &finding.state {
            Ok(text) => ("ok     ", text),
            Err(text) => ("MISSING", text),
        };
        println!("{mark} {:widest$}  {text}", finding.what);
    }
    println!("cache:  {}", workspace::cache_dir()?.display());
    let missing = findings.iter().filter(|finding| finding.state.is_err()).count();
    if missing == 0 { Ok(()) } else { bail!("{missing} missing; `run` and `test` install what they can by themselves") }
}

fn finding(what: impl Into<String>, found: Option<String>, otherwise: impl Into<String>) -> Finding {
    Finding { what: what.into(), state: found.ok_or_else(|| otherwise.into()) }
}

fn rust() -> Finding {
    let version = process::output(Command::new("rustc").arg("--version")).ok();
    finding("Rust for this machine", version.map(|text| text.trim().to_owned()), "rustup.rs")
}

fn sources() -> Finding {
    let otherwise = format!("rustup component add rust-src, or Debian's {}", toolchain::DEBIAN_PACKAGES.join(" "));
    finding("Rust for images", toolchain::find().map(|found| found.about), otherwise)
}

fn component(command: &str, component: &str) -> Finding {
    let version = process::output(Command::new("cargo").args([command, "--version"])).ok();
    finding(
        format!("cargo {command}"),
        version.map(|text| text.trim().to_owned()),
        format!("rustup component add {component}"),
    )
}

fn tool(tool: &Tool) -> Finding {
    let version = tool.find().map(|path| match version(&path) {
        Some(version) => format!("{}: {version}", path.display()),
        None => path.display().to_string(),
    });
    finding(format!("{} ({})", tool.program, tool.purpose), version, format!("Debian's {}", tool.package))
}

fn version(program: &Path) -> Option<String> {
    let text = process::output(Command::new(program).arg("--version")).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

fn guest(board: &Board) -> Result<Finding> {
    Ok(finding(format!("default guest of {}", board.name), guests::fetched(board)?, "cargo xtask guests"))
}
