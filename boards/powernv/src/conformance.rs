//! The conformance table in place of guests: column `powernv-radix`, or, if the machine was started with `-append hashed`,
//! `powernv-hpt`, with the cases of a guest's calls on its table before it. The radix guests may have guests: before their
//! table come the cases of those.

use backend_ppc64::bare::Ppc64Bare;
use backend_ppc64::bare::hashed::claim;
use backend_ppc64::bare::machine::Bare;
use backend_ppc64::bare::translated::translated;
use backend_ppc64::bare::words::Words;
use backend_ppc64::hash::Config;
use backend_ppc64::hash::words::LARGE_PAGE;
use backend_ppc64::nested_host::children::Limits;
use backend_ppc64::radix::PartitionScoped;
use backend_ppc64::vcpu::hashed::Hashed;
use backend_ppc64::vcpu::{msr, sprs};
use board_kit::column::{self, Probe, Setup};
use conformance::cases::Case;
use conformance::probe::{Nowhere, RAM_PAGES};
use conformance::rig::{Bench, Codec, FIRST, SECOND};
use conformance::verdict::{Run, check};
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

/// What no other column has.
const OWN: [Case<Ppc64Bare>; 1] =
    [Case { name: "deferred-calls-are-made-with-translation-on", rule: "R21", run: with_translation }];

/// On, and of the same memory; off again, and the guest's as it was.
fn with_translation(_: &Bench<'_, Ppc64Bare>) -> Run {
    const WORD: u64 = 0x0123_4567_89ab_cdef;
    let translating = |state: u64| state & (msr::IR | msr::DR);
    let (before, mut words) = (sprs::partition(), alloc::vec![0_u64; 1 << 10]);
    let guest = u64::from(FIRST.0.get());
    check(translating(sprs::machine_state()) == 0, "the hypervisor runs with translation on")?;
    // As if the guest had left just now.
    sprs::set_partition(guest);
    let inside = translated(&mut Hashed::default(), || {
        words.fill(WORD);
        (sprs::machine_state(), sprs::partition())
    });
    let after = sprs::partition();
    sprs::set_partition(before);
    let Some((state, own)) = inside else { return check(false, "translation does not go on") };
    check(translating(state) == msr::IR | msr::DR, "only a half of translation is on")?;
    check(own == 0, "the guest's partition stayed loaded")?;
    check(translating(sprs::machine_state()) == 0, "translation stays on")?;
    check(after == guest, "the guest's partition is not loaded again")?;
    check(words.iter().all(|word| *word == WORD), "what was written with translation on is somewhere else")
}

/// Runs the table on a machine with so many CPUs and this device tree, and ends the run.
pub fn run(machine: &'static Bare, cpus: usize, tree: &[u8]) -> ! {
    let probe = Probe { entry: ENTRY, nowhere: Nowhere::Exception, returns: BLR };
    let setup = Setup { machine, cpus, start: cpus::start, codecs: CODECS, probe };
    if Words::of(tree).have(HASHED) {
        for tag in [FIRST, SECOND] {
            machine.set_table(tag, Some(Config::for_ram(RAM_PAGES << PAGE_SHIFT, LARGE_PAGE)));
        }
        column::run_with::<Powernv>(&setup, claim, conformance_hash::table().chain(OWN))
    }
    let limits = Limits { vcpus: conformance_nest::VCPUS, pages: conformance_nest::PAGES };
    for tag in [FIRST, SECOND] {
        machine.set_nest(tag, Some(limits));
    }
    column::run_with::<Powernv>(&setup, |_, _, _, _| None, conformance_nest::table())
}
