//! Misuses of hv-core that its types forbid.
//!
//! Each file in `cases/` is a small correct program, and with `--cfg misuse` a wrong one. Its first line says which error
//! the compiler must give for the wrong one: a code (E0382), or the name of a lint. Texts of errors change from release
//! to release; codes do not. `tests/misuses.rs` compiles every file both ways, so a case that fails for another reason
//! than the misuse is noticed as well.
//!
//! ```text
//! cargo test -p compile-fail
//! ```
