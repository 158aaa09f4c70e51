//! The command line, as ARCHITECTURE.md promises it.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::guests;

/// Builds, runs and tests Trivet.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch the default guests and print where they are
    Guests,
}

/// Carries out the command line.
pub fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Guests => guests::run(),
    }
}
