//! The conformance table in place of guests: column `pseries`.

use backend_ppc64::nested::machine::Nested;
use backend_ppc64::radix::PartitionScoped;
use board_kit::column::{self, Probe, Setup};
use conformance::probe::Nowhere;
use conformance::rig::Codec;
use hv_core::addr::Gpa;

use crate::{Pseries, cpus};

core::arch::global_asm!(include_str!("../../../tests/guests/ppc64/probe.S"), options(raw));

/// The probe's first instruction: the reset vector.
const ENTRY: Gpa = Gpa(0x100);
/// blr.
const BLR: u64 = 0x4e80_0020;

const CODECS: &[Codec] = &[Codec::of::<PartitionScoped>("ppc64 partition-scoped")];

/// Runs the table on a machine with so many CPUs, and ends the run.
pub fn run(machine: &'static Nested, cpus: usize) -> ! {
    let probe = Probe { entry: ENTRY, nowhere: Nowhere::Exception, returns: BLR };
    column::run::<Pseries>(&Setup { machine, cpus, start: cpus::start, codecs: CODECS, probe })
}
