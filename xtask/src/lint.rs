//! `cargo xtask lint`: clippy, rustdoc, and the project's own lints.

use std::process::Command;

use anyhow::Result;

use crate::progress::step;
use crate::{lints, process, setup, workspace};

/// Runs all of them; the first kind that finds something ends it.
pub fn run() -> Result<()> {
    lints::run(&workspace::root())?;
    setup::need_component("clippy", "clippy")?;
    let mut clippy = Command::new("cargo");
    clippy.current_dir(workspace::root());
    clippy.args(["clippy", "--quiet", "--all-targets", "--", "-Dwarnings"]);
    step("clippy", || process::output(&mut clippy))?;
    let mut doc = Command::new("cargo");
    doc.current_dir(workspace::root()).env("RUSTDOCFLAGS", "-Dwarnings");
    doc.args(["doc", "--quiet", "--no-deps", "--document-private-items"]);
    step("rustdoc", || process::output(&mut doc)).map(drop)
}
