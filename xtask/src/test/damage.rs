//! Bundles that are cut short, changed, or too large for the machine: Trivet must refuse each at boot, with a message,
//! and not fall over.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hv_core::link::LinkMode;

use crate::board::Board;
use crate::bundle::{Temporary, pack};
use crate::emulator::{Emulator, Happened, Launch};
use crate::image::{self, Profile, Variant};
use crate::log::Log;
use crate::run::plan::{Plan, Wish};
use crate::run::tail::Echo;
use crate::run::world::World;
use crate::units::Size;

/// A way to spoil a bundle.
struct Damage {
    name: &'static str,
    spoil: fn(&mut Vec<u8>),
}

/// tar's blocks.
const BLOCK: usize = 512;

const DAMAGES: &[Damage] = &[
    Damage { name: "cut in the middle", spoil: |bytes| bytes.truncate(bytes.len() / 2) },
    Damage { name: "cut inside the configuration", spoil: |bytes| bytes.truncate(BLOCK + 5) },
    Damage { name: "cut inside the first header", spoil: |bytes| bytes.truncate(100) },
    Damage { name: "configuration changed", spoil: |bytes| flip(bytes, BLOCK + 12) },
    Damage {
        name: "kernel changed",
        spoil: |bytes| {
            let middle = bytes.len() / 2;
            flip(bytes, middle)
        },
    },
    Damage { name: "sums changed", spoil: |bytes| flip(bytes, 3 * BLOCK + 20) },
    Damage { name: "all zeros", spoil: |bytes| bytes.fill(0) },
    Damage { name: "no archive", spoil: |bytes| bytes.fill(0x5a) },
];

fn flip(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 0x10;
    }
}

/// Tries every damage on every board, and a machine that is too small.
pub fn run(profile: Profile, boards: &[Board]) -> Result<()> {
    for board in boards {
        let image = image::build(board, profile, Variant::Guests)?;
        let plan = Plan::new(board, board.machine(None)?, &Wish::default(), LinkMode::Split)?;
        let whole = pack(&plan.config, &plan.images)?;
        for damage in DAMAGES {
            let mut bytes = whole.clone();
            (damage.spoil)(&mut bytes);
            let why = refused(board, &image, board.memory, &bytes);
            println!("ok {}: {}", damage.name, why.with_context(|| format!("bundle with {}", damage.name))?);
        }
        let (memory, bundle) = too_large(board)?;
        let why = refused(board, &image, memory, &bundle).context("too little machine memory")?;
        println!("ok too little machine memory: {why}");
    }
    Ok(())
}

/// A small machine, and a bundle that fits into it once but not twice, as loading its guest would take. (Not smaller: some
/// firmware leaves the first half of 256 MiB to the image.)
fn too_large(board: &Board) -> Result<(Size, Vec<u8>)> {
    let memory = board.memory_step.max(Size(512 << 20));
    let noise =
        std::iter::successors(Some(1_u64), |state| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)));
    let words = usize::try_from(memory.0 / 16)?;
    let disk: Vec<u8> = noise.take(words).flat_map(u64::to_be_bytes).collect();
    let disk = Temporary::write("noise", &disk)?;
    let manifest = format!("[[vm]]\nname = 'linux'\nmemory = '2GiB'\ninitrd = '{}'\n", disk.path().display());
    let manifest = Temporary::write("large.toml", manifest.as_bytes())?;
    let wish = Wish { guests: Some(manifest.path().to_owned()), memory: Some(memory), ..Wish::default() };
    let plan = Plan::new(board, board.machine(None)?, &wish, LinkMode::Split)?;
    Ok((memory, pack(&plan.config, &plan.images)?))
}

/// Boots and returns why Trivet refused.
fn refused(board: &Board, image: &Path, memory: Size, bundle: &[u8]) -> Result<String> {
    let bundle = Temporary::write("damaged.tar", bundle)?;
    let mut world = World::new(std::iter::empty(), Log::of(image)?, Echo::Kept);
    let mut emulator = Emulator::start(&Launch {
        board,
        machine: board.machine(None)?,
        args: &board.emulator.args,
        cpus: 1,
        memory,
        image,
        bundle: Some(bundle.path()),
    })?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match emulator.next(deadline)? {
            Happened::Bytes(bytes) => world.feed(&bytes),
            Happened::Silence => {
                world.finish();
                world.print_tails();
                bail!("Trivet neither refused it nor ended");
            }
            Happened::Ended(status) => {
                world.finish();
                if let Some(what) = world.panicked {
                    bail!("Trivet panicked: {what}");
                }
                if status.success() {
                    bail!("the machine ended as if all had gone well");
                }
                // Before the configuration is read Trivet does not know that frames are wanted.
                let raw = || world.raw_line("refused").or_else(|| world.raw_line("too little memory"));
                let said = world.refused.clone().or_else(raw);
                if said.is_none() {
                    world.print_tails();
                }
                return said.context("Trivet ended without saying why");
            }
        }
    }
}
