//! Two VMs on one CPU that keep patterns in registers which entering a guest does not switch: none may be lost.

use std::time::Duration;

use anyhow::{Result, bail};
use hv_core::guest::manifest::{Backing, Config, Granule, Huge, OutOfMemory, VmConfig};
use hv_core::link::LinkMode;

use super::Depth;
use crate::batch;
use crate::board::{Board, Machine};
use crate::bundle::{Image, Temporary, pack};
use crate::emulator::Launch;
use crate::image::{self, Profile, Variant};

/// How long the run may take; it takes two seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs it on every board, wherever something else switches the registers; deeper, on every machine.
/// The guests fail the run by themselves.
pub fn run(profile: Profile, depth: Depth) -> Result<()> {
    for board in Board::all()? {
        let image = image::build(&board, profile, Variant::Guests)?;
        let guest = Image { member: "guest-state".to_owned(), file: image::guest(&board, "state")? };
        let vm = |name: &str| VmConfig {
            name: name.to_owned(),
            vcpus: 1,
            memory: 64 << 20,
            backing: Backing::Anon,
            huge: Huge::Always,
            granule: Granule::Page,
            shared: None,
            swap: true,
            out_of_memory: OutOfMemory::Stop,
            dirty_log: false,
            nested: false,
            kernel: guest.member.clone(),
            initrd: None,
            cmdline: String::new(),
        };
        let config = Config { link: LinkMode::Plain, vms: vec![vm("first"), vm("second")] };
        let bundle = Temporary::write("state.tar", &pack(&config, std::slice::from_ref(&guest))?)?;
        // What has a column of its own has a way of its own into a guest.
        let differs = |machine: &&Machine| depth == Depth::Deep || machine.column.is_some() && super::is_usual(machine);
        for machine in board.machines.iter().filter(differs) {
            let launch = Launch {
                board: &board,
                machine,
                args: &board.emulator.args,
                cpus: 1,
                memory: board.memory,
                image: &image,
                bundle: Some(bundle.path()),
            };
            let written = batch::run(&launch, LIMIT)?;
            if !written.status.success() {
                bail!("{}: {}\n{}", machine.name, written.status, written.lines.join("\n"));
            }
            println!("ok {}", machine.name);
        }
    }
    Ok(())
}
