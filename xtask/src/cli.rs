//! The command line, as ARCHITECTURE.md promises it.

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::build::BuildArgs;
use crate::conformance::Format;
use crate::demo::DemoArgs;
use crate::error::{refuse, suggestion};
use crate::fmt::Mode;
use crate::image::Profile;
use crate::model::ModelArgs;
use crate::museum::MuseumArgs;
use crate::run::RunArgs;
use crate::test::Depth;
use crate::{bench, build, conformance, demo, dmesg, doctor, fmt, guests, lint, model, museum, new, run, size, test};

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
        /// A column of the table, or all of them; Bochs's, which take minutes each, are among them
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
    /// Explore the races of tests/models, by model checkers and by threads
    Model(ModelArgs),
    /// Plant bugs that shipped in a copy of the source; the checkers must find each
    Museum(MuseumArgs),
    /// Show what memory management can do, each in a run that judges itself
    Demo(DemoArgs),
    /// Measure path lengths in instructions, beside KVM's; or page-table work, beside other crates'
    Bench {
        /// The board
        #[arg(long, default_value = "pseries", conflicts_with = "host")]
        board: String,
        /// Which of the board's machines
        #[arg(long, conflicts_with = "host")]
        machine: Option<String>,
        /// Measure page-table work on this machine
        #[arg(long)]
        host: bool,
    },
    /// Compare a guest's kernel messages with those of the same kernel without Trivet; fails if it has others
    Dmesg {
        /// The board
        #[arg(long, default_value = "virt")]
        board: String,
        /// Which of the board's machines
        #[arg(long)]
        machine: Option<String>,
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
    /// Begin a port to an instruction set: a backend with an entry format that works
    NewIsa {
        /// Its name: the package is backend-NAME
        name: String,
    },
    /// Begin a board, as a copy of one that runs
    NewBoard {
        /// Its name: the folder is boards/NAME
        name: String,
        /// The board that is copied
        #[arg(long, value_name = "BOARD", default_value = "virt")]
        like: String,
    },
    /// Show what is installed and what is missing
    Doctor,
    /// Fetch the default guests and print where they are
    Guests,
}

/// What is wrong with a command line, in one line, with a suggestion if something near exists.
fn one_line(wrong: &clap::Error) -> String {
    let text = wrong.render().to_string();
    // The first paragraph says what is wrong, over several lines if it lists something.
    let first = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let mut line = first.collect::<Vec<_>>().join(" ");
    line = line.strip_prefix("error: ").unwrap_or(&line).to_owned();
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: ").filter(|tip| tip.contains("similar")));
    if let Some(ContextValue::String(typed)) = wrong.get(ContextKind::InvalidSubcommand) {
        // clap's own measure finds nothing near to short words.
        let command = Cli::command();
        let known: Vec<&str> = command.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name()).collect();
        line += &suggestion(typed, known);
    } else if let Some(tip) = tip {
        line = format!("{line}; {tip}");
    }
    line + " (--help shows what there is)"
}

/// Carries out the command line.
pub fn run() -> Result<()> {
    let cli = Cli::try_parse().map_err(|wrong| match wrong.kind() {
        // Not mistakes: these print to stdout, or the help that was asked for by saying nothing.
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            wrong.exit()
        }
        _ => refuse(one_line(&wrong)),
    })?;
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Test { deep, step } => test::run(if deep { Depth::Deep } else { Depth::Usual }, step.as_deref()),
        Command::Conformance { target, filter, format, profile } => {
            conformance::run(&target, filter.as_deref(), format, profile)
        }
        Command::Model(args) => model::run(&args),
        Command::Museum(args) => museum::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench { host: true, .. } => bench::host::run(),
        Command::Bench { board, machine, host: false } => bench::run(&board, machine.as_deref()),
        Command::Dmesg { board, machine } => dmesg::run(&board, machine.as_deref()),
        Command::Size { board } => size::run(board.as_deref()),
        Command::Lint => lint::run(),
        Command::Fmt { check } => fmt::run(if check { Mode::Check } else { Mode::Write }),
        Command::NewIsa { name } => new::isa(&name),
        Command::NewBoard { name, like } => new::board(&name, &like),
        Command::Doctor => doctor::run(),
        Command::Guests => guests::run(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cli, one_line};
    use clap::Parser as _;

    fn wrong(words: &[&str]) -> String {
        let words = ["xtask"].iter().chain(words);
        one_line(&Cli::try_parse_from(words).map(|_| ()).unwrap_err())
    }

    #[test]
    fn a_typo_gets_one_line_and_a_suggestion() {
        assert!(wrong(&["rn"]).contains("did you mean \"run\"?"), "{}", wrong(&["rn"]));
        assert!(wrong(&["run", "--bord", "pseries"]).contains("'--board'"));
        assert!(wrong(&["run"]).contains("--board <BOARD>"));
        for words in [&["rn"][..], &["run"], &["run", "--bord", "x"], &["conformance", "--format", "tab"]] {
            assert_eq!(wrong(words).lines().count(), 1, "{}", wrong(words));
        }
    }
}
