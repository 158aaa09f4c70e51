//! `cargo xtask run`: builds, boots the machine and its guests; interactive, or `--exec` and `--monitor`.

mod kernel;
pub mod plan;
mod session;
pub mod shell;
mod steps;
pub mod tail;
pub mod talk;
mod terminal;
pub mod watch;
pub mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use hv_core::link::{LinkMode, Outcome};

use crate::board::Board;
use crate::bundle::{Temporary, pack};
use crate::emulator::{Emulator, Launch};
use crate::error::refuse;
use crate::image::{Profile, Variant};
use crate::log::Log;
use crate::progress::step;
use crate::units::Size;
use crate::{image, setup};
use plan::{Plan, Wish};
use session::Session;
use steps::Steps;
use tail::Echo;
use world::World;

/// What `run --help` ends with.
const NOTES: &str = "Without --exec and --monitor the terminal is the guest's: Ctrl-A x switches the machine off, \
                     Ctrl-A ? lists the keys.\n\nWith them, each CMD is carried out in the order given, then everything \
                     is switched off; the exit status is 0 only if every CMD, the guests and Trivet ended well.";

/// The command's arguments.
#[derive(Args, Clone, Debug)]
#[command(after_help = NOTES)]
pub struct RunArgs {
    /// The board to boot
    #[arg(long)]
    pub board: String,
    /// Which of the board's machines (a wrong name lists them)
    #[arg(long)]
    pub machine: Option<String>,
    /// Manifest of the guests (TOML) in place of the default guest
    #[arg(long, value_name = "FILE")]
    pub guests: Option<PathBuf>,
    /// Guest kernel in place of the default one
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Guest RAM disk in place of the default one
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Physical CPUs
    #[arg(long, value_name = "N")]
    pub cpus: Option<u16>,
    /// Machine memory, such as 768MiB
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Seconds until a guest's shell must be there, and for each CMD
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
    /// How Trivet is compiled
    #[arg(long, value_enum, default_value = "release")]
    pub profile: Profile,
    /// Show boot messages of everything, and Trivet's log with file and line
    #[arg(long, short)]
    pub verbose: bool,
    #[command(flatten)]
    steps: Steps,
}

/// Carries out the command.
pub fn run(args: &RunArgs) -> Result<()> {
    let board = Board::named(&args.board)?;
    let machine = board.machine(args.machine.as_deref())?;
    if args.timeout == Some(0) {
        return Err(refuse("--timeout 0: at least one second is needed"));
    }
    let wish = Wish {
        guests: args.guests.clone(),
        kernel: args.kernel.clone(),
        initrd: args.initrd.clone(),
        cpus: args.cpus,
        memory: args.memory,
    };
    let link = if args.steps.is_empty() { LinkMode::Terminal } else { LinkMode::Split };
    let plan = Plan::new(&board, machine, &wish, link)?;
    let steps = args.steps.resolve(&plan.names())?;
    setup::need_to_run(&board, machine)?;
    let image = image::build(&board, args.profile, Variant::Guests)?;
    let bundle = step("packing the guests", || Temporary::write("bundle.tar", &pack(&plan.config, &plan.images)?))?;
    let log = Log::of(&image)?;
    let mut emulator = Emulator::start(&Launch {
        board: &board,
        machine,
        args: &board.emulator.args,
        cpus: plan.cpus,
        memory: plan.memory,
        image: &image,
        bundle: Some(bundle.path()),
    })?;
    let echo = if args.verbose { Echo::Shown } else { Echo::Kept };
    if args.verbose {
        eprintln!("{}", emulator.command);
    }
    if args.steps.is_empty() {
        return terminal::run(&mut emulator, &plan.names(), log, echo);
    }
    let timeout = args.timeout.map_or(board.timeout(machine), Duration::from_secs);
    let mut world = World::new(plan.names().into_iter(), log, echo);
    let ended = Session::new(&mut emulator, &mut world, timeout).run(&steps);
    if let Some(cost) = emulator.cost() {
        eprintln!("{}: {cost}", machine.name);
    }
    match ended {
        Ok(Outcome::Success) => Ok(()),
        Ok(Outcome::Failure) => bail!("not every command succeeded"),
        Err(error) => {
            world.finish();
            world.print_tails();
            let complaints = emulator.complaints();
            if !complaints.trim().is_empty() {
                eprintln!("--- {}, its complaints:\n{}", emulator.program(), complaints.trim_end());
            }
            Err(error)
        }
    }
}
