//! The conformance table in place of guests: columns `pc-svm`, `pc-vmx`, `pc-vmx-trap`, `pc-bochs-amd`.

use backend_x86::machine::X86Machine;
use backend_x86::stage2::format::{Entries, EptMarks, EptTrap, Npt};
use board_kit::column::{self, Probe, Setup};
use conformance::probe::Nowhere;
use conformance::rig::Codec;
use hv_core::addr::Gpa;

use crate::{Pc, cpus};

core::arch::global_asm!(include_str!("../../../tests/guests/x86/probe.S"), options(raw));

/// The probe's first instruction is its first byte.
const ENTRY: Gpa = Gpa(0);
/// RET.
const RET: u64 = 0xc3;

const CODECS: &[Codec] = &[
    Codec::of::<Entries<EptMarks>>("x86 EPT, marks"),
    Codec::of::<Entries<EptTrap>>("x86 EPT, no marks"),
    Codec::of::<Entries<Npt>>("x86 nested pages"),
];

/// Runs the table on a machine with so many CPUs, and ends the run.
pub fn run(machine: &'static X86Machine, cpus: usize) -> ! {
    let probe = Probe { entry: ENTRY, nowhere: Nowhere::Ones, returns: RET };
    column::run::<Pc>(&Setup { machine, cpus, start: cpus::start, codecs: CODECS, probe })
}
