//! `cargo xtask build`: the image by itself and, for running it without xtask, a bundle of guests beside it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use hv_core::link::LinkMode;

use crate::board::Board;
use crate::bundle::pack;
use crate::error::refuse;
use crate::image::{self, Profile, Variant};
use crate::run::plan::{Plan, Wish};

/// The command's arguments.
#[derive(Args, Clone, Debug)]
pub struct BuildArgs {
    /// The board
    #[arg(long)]
    pub board: String,
    /// How it is compiled
    #[arg(long, value_enum, default_value = "release")]
    pub profile: Profile,
    /// Also write the guests' bundle to FILE, which an emulator loads as the image's RAM disk
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// Manifest of the bundle's guests (TOML) in place of the default guest
    #[arg(long, value_name = "FILE", requires = "bundle")]
    pub guests: Option<PathBuf>,
}

/// Carries out the command; the image's path is the last line of stdout.
pub fn run(args: &BuildArgs) -> Result<()> {
    let board = Board::named(&args.board)?;
    if let Some(file) = &args.bundle {
        let wish = Wish { guests: args.guests.clone(), ..Wish::default() };
        // No frames: whoever runs it has a bare serial line.
        let plan = Plan::new(&board, board.machine(None)?, &wish, LinkMode::Plain)?;
        let bytes = pack(&plan.config, &plan.images)?;
        std::fs::write(file, bytes).map_err(|error| refuse(format!("cannot write {}: {error}", file.display())))?;
    }
    let image = image::build(&board, args.profile, Variant::Guests)?;
    println!("{}", board.image.form.file(&image).to_str().context("the build folder's path is not UTF-8")?);
    Ok(())
}
