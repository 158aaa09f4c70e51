//! What explores a scenario, and the program that each needs: one binary, compiled in a flavour of `hv_core::sync`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::error::refuse;
use crate::progress::step;
use crate::{process, workspace};

/// What explores a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runner {
    /// Every interleaving within a bound of preemptions, in the memory model of C11
    Loom,
    /// Many random schedules, some that put a few CPUs first
    Shuttle,
    /// Threads of this machine, many times
    Threads,
    /// Threads under an interpreter that knows every undefined behaviour
    Miri,
}

/// A flavour of the sources: what stands for atomics, locks and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// loom's.
    Loom,
    /// shuttle's.
    Shuttle,
    /// The real ones.
    Plain,
}

impl Runner {
    /// All of them, those that find most first.
    pub const ALL: [Self; 4] = [Self::Loom, Self::Shuttle, Self::Threads, Self::Miri];

    /// Its name, as on command lines and in the catalogue.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loom => "loom",
            Self::Shuttle => "shuttle",
            Self::Threads => "threads",
            Self::Miri => "miri",
        }
    }

    /// What it needs the sources to be.
    pub fn flavour(self) -> Flavour {
        match self {
            Self::Loom => Flavour::Loom,
            Self::Shuttle => Flavour::Shuttle,
            Self::Threads | Self::Miri => Flavour::Plain,
        }
    }
}

impl Flavour {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 3] = [Self::Loom, Self::Shuttle, Self::Plain];

    /// The name of its build folder.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Loom => "loom",
            Self::Shuttle => "shuttle",
            Self::Plain => "plain",
        }
    }

    /// A cargo command in the source tree `root` that compiles this flavour into `target`. A flavour takes the place of
    /// every atomic, hence a build folder of its own.
    pub fn cargo(self, root: &Path, target: &Path) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(root).env("CARGO_TARGET_DIR", target);
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
        match self {
            Self::Loom => cargo.env("RUSTFLAGS", "--cfg loom"),
            Self::Shuttle => cargo.env("RUSTFLAGS", "--cfg shuttle"),
            Self::Plain => &mut cargo,
        };
        cargo
    }
}

/// What every flavour is compiled with: fast enough to explore, with every assertion of the source.
pub const PROFILE: &str = "models";

/// Builds the scenarios in this flavour; returns the program.
pub fn build(flavour: Flavour) -> Result<PathBuf> {
    let target = workspace::target_dir().join("models").join(flavour.folder());
    let mut cargo = flavour.cargo(&workspace::root(), &target);
    cargo.args(["build", "--quiet", "--profile", PROFILE, "--package", "models", "--bin", "models"]);
    step(&format!("building the scenarios ({})", flavour.folder()), || process::output(&mut cargo))
        .context("the scenarios do not build")?;
    Ok(target.join(PROFILE).join("models"))
}

/// How to get Miri.
pub const NO_MIRI: &str =
    "Miri is not installed; get it with: rustup toolchain install nightly --component miri --component rust-src";

/// A cargo that has Miri: the active toolchain's or nightly's.
pub fn miri() -> Option<Command> {
    let cargo = |words: &[&str]| {
        let mut cargo = Command::new("cargo");
        // What the outer cargo and rustup have put there would win over the toolchain that is asked for.
        for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
            cargo.env_remove(name);
        }
        cargo.args(words);
        cargo
    };
    let found = [&["miri"][..], &["+nightly", "miri"]]
        .into_iter()
        .find(|words| process::succeeds(cargo(words).arg("--version")))?;
    Some(cargo(found))
}

/// The command that runs the scenarios' program with `words` under Miri; refuses where there is none.
pub fn under_miri(words: &[&str]) -> Result<Command> {
    let mut cargo = miri().ok_or_else(|| refuse(NO_MIRI))?;
    let target = workspace::target_dir().join("models").join("miri");
    cargo.current_dir(workspace::root()).env("CARGO_TARGET_DIR", target);
    // It reads the clock, and models that are cut short leave memory behind.
    cargo.env("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-ignore-leaks");
    // Whole geometries would take it hours.
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", "--cfg small");
    cargo.args(["run", "--quiet", "--package", "models", "--bin", "models", "--"]).args(words);
    Ok(cargo)
}

#[cfg(test)]
mod tests {
    use super::{Flavour, Runner};
    use clap::ValueEnum as _;
    use std::path::Path;

    #[test]
    fn a_runner_has_one_name_everywhere() {
        for runner in Runner::ALL {
            assert_eq!(Runner::from_str(runner.name(), false), Ok(runner));
            let table: toml::Table = format!("runner = {:?}", runner.name()).parse().unwrap();
            assert_eq!(table["runner"].clone().try_into(), Ok(runner));
        }
    }

    #[test]
    fn flavours_share_neither_flags_nor_folders() {
        let flags = |flavour: Flavour| {
            let cargo = flavour.cargo(Path::new("a"), Path::new("b"));
            let flags = cargo.get_envs().find(|(name, _)| *name == "RUSTFLAGS").unwrap().1;
            flags.map(|flags| flags.to_string_lossy().into_owned())
        };
        assert_eq!(Flavour::ALL.map(flags), [Some("--cfg loom".into()), Some("--cfg shuttle".into()), None]);
        assert_eq!(Flavour::ALL.map(Flavour::folder), ["loom", "shuttle", "plain"]);
    }
}
