//! `cargo xtask`: builds, runs and tests Trivet. One file a command; [`cli`] names them.

mod board;
mod cli;
mod error;
mod guests;
mod process;
mod progress;
mod setup;
mod units;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<error::Refused>() { 2 } else { 1 })
        }
    }
}
