//! Finds a Rust that can build its own core library for a board: one with the library's sources.
//!
//! Debian's packages lie in the system's folders, where a rustup's cargo comes first in the search path; so both are
//! asked for by path.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Error;

use crate::error::refuse;
use crate::process;

/// Debian's packages of a recent Rust.
pub const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Oldest minor version of Rust 1 that the images build with.
const OLDEST: u32 = 95;

/// A Rust with sources.
#[derive(Clone, Debug)]
pub struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// What `rustc --version` says, and where it came from.
    pub about: String,
}

impl Toolchain {
    fn at(sysroot: &Path, origin: &str) -> Option<Self> {
        let (cargo, rustc) = (sysroot.join("bin/cargo"), sysroot.join("bin/rustc"));
        let sources = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        if !cargo.is_file() || !rustc.is_file() || !sources.is_file() {
            return None;
        }
        let version = process::output(Command::new(&rustc).arg("--version").env_remove("RUSTUP_TOOLCHAIN")).ok()?;
        let version = version.trim();
        (minor(version)? >= OLDEST).then(|| Self { cargo, rustc, about: format!("{version}, {origin}") })
    }

    /// Its cargo, free of what an outer cargo or rustup has put into the environment.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let kept = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
            let cargos = name.starts_with("CARGO") && !kept.iter().any(|prefix| name.starts_with(prefix));
            if cargos || name.starts_with("RUSTUP_TOOLCHAIN") || name.starts_with("RUSTC") || name.contains("RUSTFLAGS")
            {
                command.env_remove(name);
            }
        }
        // The outer cargo adds its own toolchain's libraries.
        command.env_remove("LD_LIBRARY_PATH").env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

/// `1.96.0` to 96.
fn minor(version: &str) -> Option<u32> {
    version.split_whitespace().nth(1)?.strip_prefix("1.")?.split('.').next()?.parse().ok()
}

/// A rustup toolchain with sources, the active one first, or Debian's.
pub fn find() -> Option<Toolchain> {
    let active = process::output(Command::new("rustc").args(["--print", "sysroot"])).ok();
    let active = active.map(|path| PathBuf::from(path.trim()));
    let listed = process::output(Command::new("rustup").args(["toolchain", "list", "--verbose"])).unwrap_or_default();
    // A line is the toolchain's name, perhaps remarks in brackets, and its folder.
    let listed = listed.lines().filter_map(|line| Some(PathBuf::from(line.get(line.find('/')?..)?.trim())));
    let rustup = active.into_iter().chain(listed).find_map(|path| Toolchain::at(&path, "with rust-src"));
    rustup.or_else(|| Toolchain::at(Path::new("/usr"), "Debian's"))
}

/// No such Rust, and none could be installed.
pub fn refusal() -> Error {
    refuse(format!(
        "no Rust from 1.{OLDEST} with the sources of its library; install one of:\n  rustup component add rust-src\n  \
         sudo apt-get install --no-install-recommends {}",
        DEBIAN_PACKAGES.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::minor;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(minor("rustc 1.96.0 (abc 2026-05-25) (built from a source tarball)"), Some(96));
        assert_eq!(minor("rustc 1.100.0-nightly (abc)"), Some(100));
        assert_eq!(minor("nonsense"), None);
    }
}
