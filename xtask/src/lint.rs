//! `cargo xtask lint`: clippy, rustdoc, the project's own lints, and whether the museum still belongs to the source.

use std::process::Command;

use anyhow::{Result, bail};

use crate::progress::step;
use crate::{lints, museum, process, setup, workspace};

/// Runs all of them, so that one run shows everything.
pub fn run() -> Result<()> {
    setup::need_component("clippy", "clippy")?;
    let mut clippy = Command::new("cargo");
    clippy.current_dir(workspace::root());
    clippy.args(["clippy", "--quiet", "--all-targets", "--", "-Dwarnings"]);
    let mut doc = Command::new("cargo");
    // Private items are documented too, so links to them lead somewhere.
    let flags = "-Dwarnings -Arustdoc::private_intra_doc_links";
    doc.current_dir(workspace::root()).env("RUSTDOCFLAGS", flags);
    doc.args(["doc", "--quiet", "--no-deps", "--document-private-items"]);
    let results = [
        lints::run(&workspace::root()),
        step("museum", museum::lint),
        step("clippy", || process::output(&mut clippy)).map(drop),
        step("rustdoc", || process::output(&mut doc)).map(drop),
    ];
    let errors: Vec<String> = results.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    if errors.is_empty() { Ok(()) } else { bail!("{}", errors.join("\n")) }
}
