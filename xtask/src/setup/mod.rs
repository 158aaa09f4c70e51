//! What commands need of the machine they run on, and how it gets there.
//!
//! A command names what it needs; what is missing is installed in one go where that is possible without a password
//! (`install.rs`), and otherwise refused with the exact commands to type.

mod install;
mod newer;
pub mod toolchain;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::board::{Board, Machine};
use crate::emulator::bochs_tools;
use crate::process;
pub use newer::counter;
use toolchain::Toolchain;

/// A program that is looked for, and Debian's package of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// What it is for.
    pub purpose: &'static str,
    /// Its name in the search path.
    pub program: String,
    /// Debian's package.
    pub package: String,
}

impl Tool {
    /// A tool; a program that is no program is a file's path.
    pub fn new(purpose: &'static str, program: &str, package: &str) -> Self {
        Self { purpose, program: program.to_owned(), package: package.to_owned() }
    }

    /// Where it is.
    pub fn find(&self) -> Option<PathBuf> {
        process::find(&self.program)
    }
}

/// The linker for images.
pub fn linker() -> Tool {
    Tool::new("linker for images", "ld.lld", "lld")
}

/// What runs one of the board's machines.
pub fn emulator(board: &Board, machine: &Machine) -> Vec<Tool> {
    match machine.bochs {
        Some(_) => bochs_tools(),
        None => vec![Tool::new("emulator", &board.emulator.program, &board.emulator.package)],
    }
}

/// What fetches and unpacks guests.
pub fn guest_tools() -> [Tool; 2] {
    [Tool::new("fetches guests", "apt-get", "apt"), Tool::new("unpacks guests", "dpkg-deb", "dpkg")]
}

/// Makes sure that images can be built; returns what builds them.
pub fn need_toolchain() -> Result<Toolchain> {
    install::packages(&missing_to_build(), "to build images")?;
    toolchain::find().ok_or_else(toolchain::refusal)
}

/// Makes sure that the board's image can be built, and run on this machine: all that is missing at once.
pub fn need_to_run(board: &Board, machine: &Machine) -> Result<Toolchain> {
    let mut missing = missing_to_build();
    missing.extend(install::missing(&emulator(board, machine)));
    install::packages(&missing, "to build and run images")?;
    toolchain::find().ok_or_else(toolchain::refusal)
}

/// What counts instructions on this machine.
pub fn callgrind() -> Tool {
    Tool::new("counts instructions on this machine", "valgrind", "valgrind")
}

/// Makes sure that instructions can be counted on this machine.
pub fn need_callgrind() -> Result<()> {
    install::packages(&install::missing(&[callgrind()]), "to count instructions on this machine")
}

/// The packages without which no image can be built.
fn missing_to_build() -> Vec<String> {
    let mut missing = install::missing(&[linker()]);
    if toolchain::find().is_none() {
        missing.extend(toolchain::DEBIAN_PACKAGES.map(str::to_owned));
    }
    missing
}

/// Makes sure that guests can be fetched.
pub fn need_guest_tools() -> Result<()> {
    let missing = install::missing(&guest_tools());
    if missing.is_empty() {
        return Ok(());
    }
    Err(crate::error::refuse(format!(
        "the default guest is fetched with Debian's {}, which this machine lacks; bring your own with --kernel FILE --initrd FILE",
        missing.join(" and ")
    )))
}

/// Makes sure that `cargo command` is there; rustup adds the component where it can.
pub fn need_component(command: &str, component: &str) -> Result<()> {
    let there = || process::succeeds(Command::new("cargo").args([command, "--version"]));
    if there() {
        return Ok(());
    }
    eprintln!("installing with rustup: {component}");
    let added = process::output(Command::new("rustup").args(["component", "add", component]));
    if added.is_ok() && there() {
        return Ok(());
    }
    Err(crate::error::refuse(format!(
        "cargo {command} is missing; install it with:\n  rustup component add {component}"
    )))
}
