//! The command line, as ARCHITECTURE.md promises it.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::image::{self, Profile};
use crate::run::{self, RunArgs};
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
    /// Build Trivet, boot a machine and its guests: interactive, or with --exec and --monitor
    Run(RunArgs),
    /// Build a board's image; the last line of stdout is its path
    Build {
        /// The board
        #[arg(long)]
        board: String,
        /// How it is compiled
        #[arg(long, value_enum, default_value = "release")]
        profile: Profile,
    },
    /// Fetch the default guests and print where they are
    Guests,
}

/// Carries out the command line.
pub fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Build { board, profile } => image::run(&board, profile),
        Command::Guests => guests::run(),
    }
}
