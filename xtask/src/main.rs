//! `cargo xtask`: builds, runs and tests Trivet. One file a command; [`cli`] names them.

mod batch;
mod bench;
mod board;
mod build;
mod bundle;
mod cli;
mod conformance;
mod demo;
mod dmesg;
mod doctor;
mod emulator;
mod error;
mod fmt;
mod fpcheck;
mod guests;
mod image;
mod jobs;
mod lint;
mod lints;
mod log;
mod manifest;
mod model;
mod museum;
mod new;
mod process;
mod progress;
mod run;
mod setup;
mod size;
mod tables;
mod test;
mod units;
mod watched;
mod workspace;
mod wrong;

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
