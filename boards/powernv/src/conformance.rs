//! The conformance table in place of guests: column `powernv-radix`.

use backend_ppc64::bare::machine::Bare;
use backend_ppc64::radix::PartitionScoped;
use board_kit::column::{self, Setup};
use conformance::probe::{Image, Nowhere};
use conformance::rig::Codec;
use hv_core::addr::Gpa;

use crate::{Powernv, cpus};

core::arch::global_asm!(include_str!("../../../tests/guests/ppc64/probe.S"), options(raw));

unsafe extern "C" {
    static trivet_probe: u8;
    static trivet_probe_end: u8;
}

/// The probe's first instruction: the reset vector.
const ENTRY: Gpa = Gpa(0x100);
/// blr.
const BLR: u64 = 0x4e80_0020;

const CODECS: &[Codec] = &[Codec::of::<PartitionScoped>("ppc64 partition-scoped")];

/// Runs the table on a machine with so many CPUs, and ends the run.
pub fn run(machine: &'static Bare, cpus: usize) -> ! {
    let (start, end) = (&raw const trivet_probe, &raw const trivet_probe_end);
    // SAFETY: the assembly between the two symbols, in the image's read-only data.
    let code = unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) };
    let probe = Image { code, entry: ENTRY, nowhere: Nowhere::Exception, returns: Some(BLR) };
    column::run::<Powernv>(&Setup { machine, cpus, start: cpus::start, codecs: CODECS, probe })
}
