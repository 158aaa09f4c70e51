//! The command line, as ARCHITECTURE.md promises it.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::build::BuildArgs;
use crate::conformance::Format;
use crate::error::refuse;
use crate::fmt::Mode;
use crate::image::Profile;
use crate::run::RunArgs;
use crate::test::Depth;
use crate::{bench, build, conformance, doctor, fmt, guests, lint, run, size, test};

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
    Build(BuildArgs),
    /// Run everything that CI runs
    Test {
        /// Explore longer
        #[arg(long)]
        deep: bool,
        /// Only steps whose names contain this
        #[arg(long, value_name = "NAME")]
        step: Option<String>,
    },
    /// Run the table of cases that every column must pass
    Conformance {
        /// A column of the table, or all
        #[arg(long, value_name = "COLUMN|all", default_value = "all")]
        target: String,
        /// Only cases whose names match
        #[arg(long, value_name = "REGEX")]
        filter: Option<String>,
        /// How results are printed
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
        /// How boards' images are compiled
        #[arg(long, value_enum, default_value = "release")]
        profile: Profile,
    },
    /// Measure path lengths in instructions, beside KVM's
    Bench {
        /// The board
        #[arg(long, default_value = "pseries", conflicts_with = "host")]
        board: String,
        /// Measure page-table work on this machine
        #[arg(long)]
        host: bool,
    },
    /// Print what an image consists of; fails above the board's limit
    Size {
        /// The board; all of them by default
        #[arg(long)]
        board: Option<String>,
    },
    /// Run clippy, rustdoc and the project's own lints
    Lint,
    /// Format every file
    Fmt {
        /// Change nothing, fail if a file is not formatted
        #[arg(long)]
        check: bool,
    },
    /// Show what is installed and what is missing
    Doctor,
    /// Fetch the default guests and print where they are
    Guests,
    /// Not there yet
    #[command(hide = true)]
    Museum {
        /// Ignored
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
}

/// Carries out the command line.
pub fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Test { deep, step } => test::run(if deep { Depth::Deep } else { Depth::Usual }, step.as_deref()),
        Command::Conformance { target, filter, format, profile } => {
            conformance::run(&target, filter.as_deref(), format, profile)
        }
        Command::Bench { host: true, .. } => bench::host(),
        Command::Bench { board, host: false } => bench::run(&board),
        Command::Size { board } => size::run(board.as_deref()),
        Command::Lint => lint::run(),
        Command::Fmt { check } => fmt::run(if check { Mode::Check } else { Mode::Write }),
        Command::Doctor => doctor::run(),
        Command::Guests => guests::run(),
        Command::Museum { rest: _ } => Err(refuse("the museum is not there yet")),
    }
}
