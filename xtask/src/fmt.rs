//! `cargo xtask fmt`: rustfmt over every package, and the tables of exhibits.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{museum, process, setup, workspace};

/// Whether files may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Format them.
    Write,
    /// Fail if one is not formatted.
    Check,
}

/// Formats, or checks.
pub fn run(mode: Mode) -> Result<()> {
    setup::need_component("fmt", "rustfmt")?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["fmt", "--all"]);
    match mode {
        Mode::Write => process::attached(&mut cargo).and_then(|()| museum::write_tables()),
        // Only the names of the files that differ. The tables are the lint's.
        Mode::Check => process::output(cargo.args(["--", "--check", "-l"])).map(drop).context("not formatted"),
    }
}
