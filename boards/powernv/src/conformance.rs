//! The conformance table in place of guests: column `powernv-radix`, or, if the machine was started with `-append hashed`,
//! `powernv-hpt`, with the cases of a guest's calls on its table before it. The radix guests may have guests: before their
//! table come the cases of those.

use backend_ppc64::bare::hashed::claim;
use backend_ppc64::bare::machine::Bare;
use backend_ppc64::bare::words::Words;
use backend_ppc64::hash::Config;
use backend_ppc64::hash::words::LARGE_PAGE;
use backend_ppc64::nested_host::children::Limits;
use backend_ppc64::radix::PartitionScoped;
use board_kit::column::{self, Probe, Setup};
use conformance::probe::{Nowhere, RAM_PAGES};
use conformance::rig::{Codec, FIRST, SECOND};
use hv_core::addr::{Gpa, PAGE_SHIFT};

use crate::{Powernv, cpus};

core::arch::global_asm!(include_str!("../../../tests/guests/ppc64/probe.S"), options(raw));

/// The probe's first instruction: the reset vector.
const ENTRY: Gpa = Gpa(0x100);
/// blr.
const BLR: u64 = 0x4e80_0020;

const CODECS: &[Codec] = &[Codec::of::<PartitionScoped>("ppc64 partition-scoped")];

/// On the command line: guests have hashed tables.
const HASHED: &[u8] = b"hashed";

/// Runs the table on a machine with so many CPUs and this device tree, and ends the run.
pub fn run(machine: &'static Bare, cpus: usize, tree: &[u8]) -> ! {
    let probe = Probe { entry: ENTRY, nowhere: Nowhere::Exception, returns: BLR };
    let setup = Setup { machine, cpus, start: cpus::start, codecs: CODECS, probe };
    if Words::of(tree).have(HASHED) {
        for tag in [FIRST, SECOND] {
            machine.set_table(tag, Some(Config::for_ram(RAM_PAGES << PAGE_SHIFT, LARGE_PAGE)));
        }
        column::run_with::<Powernv>(&setup, claim, conformance_hash::table())
    }
    let limits = Limits { vcpus: conformance_nest::VCPUS, pages: conformance_nest::PAGES };
    for tag in [FIRST, SECOND] {
        machine.set_nest(tag, Some(limits));
    }
    column::run_with::<Powernv>(&setup, |_, _, _, _| None, conformance_nest::table())
}
