//! `cargo xtask new-isa` and `new-board`: a port's first step.
//!
//! ```text
//!   isa     a backend with an entry format that works, from `xtask/templates/isa`, known to the codec cases
//!   board   a copy of a board that runs, under another name
//!   tree    what both do to the tree: all of it, or nothing
//! ```

mod board;
/// What `new-isa` gives, compiled and tested here.
#[cfg(test)]
#[path = "../../templates/isa/src/format.rs"]
mod format;
mod isa;
mod tree;

use anyhow::Result;

use crate::error::refuse;
use crate::workspace;

/// Adds `backend-NAME`.
pub fn isa(name: &str) -> Result<()> {
    check(name)?;
    isa::changes(&workspace::root(), name)?.write()?;
    println!("backend-{name} is there; its README.md says what comes next. It passes:");
    println!("cargo test -p backend-{name} && cargo run -p backend-fake --bin host-radix -- --filter codec");
    Ok(())
}

/// Adds `boards/NAME`.
pub fn board(name: &str, like: &str) -> Result<()> {
    check(name)?;
    board::changes(&workspace::root(), name, like)?.write()?;
    println!("boards/{name} is there, as {like} is. It passes:");
    println!("cargo xtask conformance --target {name} --filter codec");
    Ok(())
}

/// Names become those of packages, folders and modules.
fn check(name: &str) -> Result<()> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.ends_with('-');
    if good { Ok(()) } else { Err(refuse(format!("{name:?} is no name: a-z, 0-9 and - inside, a letter first"))) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_that_cargo_or_rust_would_refuse_are_refused_first() {
        for name in ["demo", "riscv64", "rv-virt"] {
            assert!(super::check(name).is_ok(), "{name}");
        }
        for name in ["", "64bit", "Demo", "a/b", "a_b", "a b", "-a", "a-", "../x", "é"] {
            assert!(super::check(name).is_err(), "{name}");
        }
    }
}
