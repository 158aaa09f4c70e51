//! `cargo xtask demo`: what memory management can do, each in a run that judges itself.
//!
//! A demo boots a machine, has its guests do something hard, looks at the monitor's counters and ends with a table of
//! them; the exit status says whether it held. `cargo xtask test` plays short forms of the same demos.

mod dirty;
mod exhaustion;
mod garbage;
mod lives;
mod pressure;
pub mod stage;
mod story;

use anyhow::{Result, bail};
use clap::Args;

use crate::board::Board;
use crate::error::{refuse, suggestion};
use crate::setup;
use crate::test::Depth;
use stage::Place;
use story::Story;

/// The command's arguments.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Which one; all of them by default
    pub name: Option<String>,
    /// The board
    #[arg(long, default_value = "pseries")]
    pub board: String,
    /// Which of the board's machines; its default one if this is not said
    #[arg(long)]
    pub machine: Option<String>,
    /// Name them and play none
    #[arg(long)]
    pub list: bool,
    /// The short form, as `test` plays it
    #[arg(long)]
    pub short: bool,
}

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All that is promised.
    Whole,
    /// The same in a tenth of the time.
    Short,
}

struct Demo {
    name: &'static str,
    about: &'static str,
    /// Which boards it can be played on.
    is_for: fn(&Board) -> bool,
    /// Which of them `cargo xtask test` plays it on, each with a machine or on its default one: what is no board's own need
    /// not be seen on each of them every time. `test --deep` plays it on the others' default machines too.
    usual: &'static [(&'static str, Option<&'static str>)],
    /// Fails if it did not hold. What it tells goes through the story.
    play: fn(&Place<'_>, Form, &mut Story) -> Result<()>,
}

const DEMOS: [Demo; 6] = [
    Demo {
        name: "pressure",
        about: "a guest of three times the machine's memory",
        is_for: every,
        // The hashed table is another second stage, and its guest's own calls are answered beside reclaim.
        usual: &[("virt", None), ("powernv", Some("9-hpt"))],
        play: pressure::play,
    },
    Demo {
        name: "exhaustion",
        about: "memory that nobody can compress, until there is none",
        is_for: every,
        usual: &[("virt", None)],
        play: exhaustion::play,
    },
    Demo {
        name: "dirty",
        about: "which pages a running guest writes, and not one missed",
        is_for: every,
        usual: &[("pseries", None), ("virt", None), ("pc", None)],
        play: dirty::play,
    },
    Demo {
        name: "dirty-nested",
        about: "the same of a guest whose own guest writes",
        is_for: dirty::has_nested,
        usual: &[("powernv", None)],
        play: dirty::play_nested,
    },
    Demo {
        name: "lives",
        about: "guests started and ended over and over; nothing is lost",
        is_for: every,
        usual: &[("virt", None)],
        play: lives::play,
    },
    Demo {
        name: "garbage",
        about: "a guest that writes garbage to all it has, beside an honest one",
        is_for: every,
        usual: &[("virt", None), ("pc", None), ("powernv", Some("9-hpt"))],
        play: garbage::play,
    },
];

fn every(_: &Board) -> bool {
    true
}

/// Carries out the command.
pub fn run(args: &DemoArgs) -> Result<()> {
    let names = DEMOS.iter().map(|demo| demo.name);
    if let Some(name) = &args.name
        && !names.clone().any(|known| known == name)
    {
        let hint = suggestion(name, names.clone());
        let names: Vec<&str> = names.collect();
        return Err(refuse(format!("there is no demo {name:?}{hint} (demos: {})", names.join(", "))));
    }
    let board = Board::named(&args.board)?;
    let place = Place { board: &board, machine: board.machine(args.machine.as_deref())? };
    if args.list {
        let there = DEMOS.iter().filter(|demo| (demo.is_for)(&board));
        there.for_each(|demo| println!("{:12} {}", demo.name, demo.about));
        return Ok(());
    }
    let chosen: Vec<&Demo> = DEMOS
        .iter()
        .filter(|demo| (demo.is_for)(&board) && args.name.as_deref().is_none_or(|name| name == demo.name))
        .collect();
    if chosen.is_empty() {
        return Err(refuse(format!("board {} has no guest for this demo", board.name)));
    }
    setup::need_to_run(place.board, place.machine)?;
    let form = if args.short { Form::Short } else { Form::Whole };
    let mut failed = Vec::new();
    for demo in chosen {
        println!("{}: {}", demo.name, demo.about);
        let mut story = Story::new();
        let done = (demo.play)(&place, form, &mut story);
        story.end(demo.name, done.is_ok());
        if let Err(error) = done {
            println!("FAILED: {error:#}");
            failed.push(demo.name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("did not hold: {}", failed.join(", ")) }
}

/// A step of `cargo xtask test`: the short form where it is usual; deeper, on every board that has it.
pub fn short(name: &str, depth: Depth) -> Result<()> {
    DEMOS.iter().filter(|demo| demo.name == name).try_for_each(|demo| {
        for board in Board::all()?.into_iter().filter(demo.is_for) {
            let usual = demo.usual.iter().filter(|(name, _)| *name == board.name).map(|(_, machine)| *machine);
            let mut machines: Vec<Option<&str>> = usual.collect();
            if depth == Depth::Deep && !machines.contains(&None) {
                machines.push(None);
            }
            for machine in machines {
                run(&DemoArgs {
                    name: Some(name.to_owned()),
                    board: board.name.clone(),
                    machine: machine.map(str::to_owned),
                    list: false,
                    short: true,
                })?;
            }
        }
        Ok(())
    })
}
