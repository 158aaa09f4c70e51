//! Guest memory against a model, by the million, and the conformance table while allocations fail (`tests/properties`).

use anyhow::{Context as _, Result};

use super::Depth;
use crate::model::{Flavour, PROFILE};
use crate::progress::step;
use crate::{process, workspace};

/// Calls on a hashed table.
fn calls(depth: Depth) -> u64 {
    match depth {
        Depth::Usual => 100_000,
        Depth::Deep => 10_000_000,
    }
}

/// Operations, a third of them on each kind of second stage.
fn operations(depth: Depth) -> u64 {
    match depth {
        Depth::Usual => 1_000_000,
        Depth::Deep => 100_000_000,
    }
}

/// Draws operations, and wants every answer to be the model's.
pub fn properties(depth: Depth) -> Result<()> {
    let each = (operations(depth) / 3).to_string();
    run("properties", &["--ops", &each])
}

/// Makes random calls with random arguments on a hashed table.
pub fn hypercalls(depth: Depth) -> Result<()> {
    run("hcalls", &["--calls", &calls(depth).to_string()])
}

/// Runs every case again and again, another of its allocations refused each time: some of them, or each.
pub fn failures(depth: Depth) -> Result<()> {
    run("failures", if depth == Depth::Deep { &["--all"] } else { &[] })
}

/// Builds a program of the package with every assertion of the source, runs it, and shows what it says.
fn run(program: &str, words: &[&str]) -> Result<()> {
    let target = workspace::target_dir().join("models").join(Flavour::Plain.folder());
    let mut cargo = Flavour::Plain.cargo(&workspace::root(), &target);
    cargo.args(["build", "--quiet", "--profile", PROFILE, "--package", "properties"]);
    step(&format!("building {program}"), || process::output(&mut cargo)).context("it does not build")?;
    let mut command = process::outlived(target.join(PROFILE).join(program));
    print!("{}", step(program, || process::output(command.args(words)))?);
    Ok(())
}
