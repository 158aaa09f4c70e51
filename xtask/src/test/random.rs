//! Guest memory against a model, by the million (`tests/properties`).

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Depth;
use crate::model::{Flavour, PROFILE};
use crate::progress::step;
use crate::{process, workspace};

/// Operations, half of them on each kind of second stage.
fn operations(depth: Depth) -> u64 {
    match depth {
        Depth::Usual => 1_000_000,
        Depth::Deep => 100_000_000,
    }
}

/// Draws operations, and wants every answer to be the model's.
pub fn properties(depth: Depth) -> Result<()> {
    let program = build("properties")?;
    let each = (operations(depth) / 2).to_string();
    let mut command = process::outlived(program);
    let ran = step("guest memory against a model", || process::output(command.args(["--ops", &each])))?;
    print!("{ran}");
    Ok(())
}

/// Builds a program of the package that has its name, with every assertion of the source.
fn build(package: &str) -> Result<PathBuf> {
    let target = workspace::target_dir().join("models").join(Flavour::Plain.folder());
    let mut cargo = Flavour::Plain.cargo(&workspace::root(), &target);
    cargo.args(["build", "--quiet", "--profile", PROFILE, "--package", package]);
    step(&format!("building {package}"), || process::output(&mut cargo)).context("it does not build")?;
    Ok(target.join(PROFILE).join(package))
}
