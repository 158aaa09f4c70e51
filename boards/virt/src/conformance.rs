//! The conformance table in place of guests: column `virt`.

use backend_arm::machine::ArmMachine;
use backend_arm::stage2::format::{Entries, Forced, Hardware, Trap};
use board_kit::column::{self, Probe, Setup};
use conformance::probe::Nowhere;
use conformance::rig::Codec;
use hv_core::addr::Gpa;

use crate::{Virt, cpus};

core::arch::global_asm!(include_str!("../../../tests/guests/arm64/probe.S"), options(raw));

/// The probe's first instruction is its first byte.
const ENTRY: Gpa = Gpa(0);
/// RET.
const RET: u64 = 0xd65f_03c0;

const CODECS: &[Codec] = &[
    Codec::of::<Entries<Forced>>("arm64 stage 2, marks and forced write-back"),
    Codec::of::<Entries<Hardware>>("arm64 stage 2, marks"),
    Codec::of::<Entries<Trap>>("arm64 stage 2, no marks"),
];

/// Runs the table on a machine with so many CPUs, and ends the run.
pub fn run(machine: &'static ArmMachine, cpus: usize) -> ! {
    let probe = Probe { entry: ENTRY, nowhere: Nowhere::Exception, returns: RET };
    column::run::<Virt>(&Setup { machine, cpus, start: cpus::start, codecs: CODECS, probe })
}
