//! Builds a board's image, and refuses one with floating-point or vector instructions (`fpcheck.rs`).

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use object::elf;
use object::read::elf::ProgramHeader as _;

use crate::board::{Board, Form};
use crate::progress::step;
use crate::{fpcheck, process, setup, workspace};

/// How an image is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Optimized.
    Release,
    /// With debug assertions, overflow checks and the monitor's `panic` command.
    Dev,
}

impl Profile {
    /// Its name for cargo.
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "dev",
        }
    }

    /// cargo's folder for it.
    fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "debug",
        }
    }
}

/// What the image does once it is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Runs the guests of its bundle.
    Guests,
    /// Runs the conformance table.
    Conformance,
    /// Prints figures that no guest can see.
    Figures,
}

impl Variant {
    /// The board package's feature for it.
    fn feature(self) -> Option<&'static str> {
        match self {
            Self::Guests => None,
            Self::Conformance => Some("conformance"),
            Self::Figures => Some("figures"),
        }
    }
}

/// Builds the image; returns the path of its ELF program. What is booted is beside it ([`Form::file`]).
pub fn build(board: &Board, profile: Profile, variant: Variant) -> Result<PathBuf> {
    let flags = rustflags(board, &board.image.link_args);
    let what = format!("Trivet for {}", board.name);
    let elf = compile(board, profile, &what, &board.name, variant.feature(), &flags)?;
    // Variants share cargo's folder, so each gets a file of its own.
    let kind = variant.feature().unwrap_or("trivet");
    let image = folder(board, profile).join(format!("{kind}.elf"));
    workspace::write_file(&image, &elf)?;
    if board.image.form == Form::Flat {
        workspace::write_file(&Form::Flat.file(&image), &flat(&elf)?)?;
    }
    Ok(image)
}

/// What a program has in memory, from its first loaded byte to the last that is not zero for want of a file's.
fn flat(elf: &[u8]) -> Result<Vec<u8>> {
    let file = object::read::elf::ElfFile64::<object::Endianness>::parse(elf).context("the image is no ELF file")?;
    let endian = file.endian();
    let loaded = || file.elf_program_headers().iter().filter(|s| s.p_type(endian) == elf::PT_LOAD);
    let start = loaded().map(|segment| segment.p_paddr(endian)).min().context("the image loads nothing")?;
    let mut flat = Vec::new();
    for segment in loaded() {
        let data = segment.data(endian, elf).ok().context("a segment lies outside of its file")?;
        let at = usize::try_from(segment.p_paddr(endian) - start).context("the image is spread out")?;
        if flat.len() < at + data.len() {
            flat.resize(at + data.len(), 0);
        }
        flat[at..at + data.len()].copy_from_slice(data);
    }
    Ok(flat)
}

/// Builds the bare-metal guest in `tests/guests/NAME` for the board's architecture; returns its path.
pub fn guest(board: &Board, name: &str) -> Result<PathBuf> {
    let script = format!("-Ttests/guests/{name}/link.ld");
    let mut flags = rustflags(board, &["-static".to_owned(), script]);
    // Loaded where it is linked: later flags win.
    flags.push("-Crelocation-model=static".to_owned());
    let package = format!("guest-{name}");
    let elf = compile(board, Profile::Release, &package, &package, None, &flags)?;
    let guest = folder(board, Profile::Release).join(format!("{package}.elf"));
    workspace::write_file(&guest, &elf)?;
    Ok(guest)
}

fn target_dir() -> PathBuf {
    workspace::target_dir().join("image")
}

fn folder(board: &Board, profile: Profile) -> PathBuf {
    target_dir().join(&board.name).join(profile.name())
}

/// Compiles a package for the board's processor, checks the result and returns its bytes.
fn compile(
    board: &Board,
    profile: Profile,
    what: &str,
    package: &str,
    feature: Option<&str>,
    flags: &[String],
) -> Result<Vec<u8>> {
    let toolchain = setup::need_toolchain()?;
    let mut cargo = toolchain.cargo();
    cargo.current_dir(workspace::root());
    cargo.args(["build", "--quiet", "--package", package, "--profile", profile.name()]);
    cargo.args(["--target", &board.image.target, "-Zbuild-std=core,alloc"]);
    cargo.arg("-Zbuild-std-features=compiler-builtins-mem,optimize_for_size").arg("--target-dir").arg(target_dir());
    if let Some(feature) = feature {
        cargo.args(["--features", feature]);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    if profile == Profile::Dev {
        // Its worth is in its checks, and an image without any optimization takes minutes in an emulator.
        cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    }
    if std::env::var_os("DEFMT_LOG").is_none() {
        cargo.env("DEFMT_LOG", "info");
    }
    let what = format!("building {what} ({}, {})", profile.name(), toolchain.about);
    step(&what, || process::output(&mut cargo))?;
    let built = target_dir().join(&board.image.target).join(profile.folder()).join(package);
    let elf = std::fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    fpcheck::check(&elf, &built)?;
    Ok(elf)
}

/// The flags for rustc: the board's, and the linker with these arguments.
fn rustflags(board: &Board, link_args: &[String]) -> Vec<String> {
    let linker = ["-Clinker=ld.lld", "-Clinker-flavor=ld"].map(str::to_owned);
    let root = workspace::root();
    let link_args = link_args.iter().map(|arg| match arg.strip_prefix("-T") {
        Some(script) if root.join(script).is_file() => format!("-Clink-arg=-T{}", root.join(script).display()),
        _ => format!("-Clink-arg={arg}"),
    });
    board.image.rustflags.iter().cloned().chain(linker).chain(link_args).collect()
}
