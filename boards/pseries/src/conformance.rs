//! The conformance table inside the image, instead of guests: column `pseries`. Or, with feature `figures`, figures.
//!
//! CPU 0 runs the cases. CPU 1 waits for what a case wants done on another CPU meanwhile (`errand`); the scheduler
//! does not run. Machine, second stage, vCPU and personality are the ones that guests get.

mod errand;

#[cfg(feature = "figures")]
use core::fmt::Write as _;

use backend_ppc64::nested::Ppc64;
use backend_ppc64::nested::machine::Nested;
use backend_ppc64::radix::PartitionScoped;
use conformance::probe::Image;
#[cfg(not(feature = "figures"))]
use conformance::report::{self, Tally};
use conformance::rig::{Codec, Rig};
#[cfg(feature = "figures")]
use conformance::{figures, rig::Bench, verdict::Stop};
use hv_core::addr::{Gpa, Order};
use hv_core::device::console::PortText;
use hv_core::epoch::Cpu;
use hv_core::isa::Isa;
use hv_core::machine::{Board, CpuId, Machine, StartCpuError, Verdict};
use hv_core::mmu::Space;

use crate::fail::refuse;
use crate::{Pseries, cpus};

core::arch::global_asm!(include_str!("../../../tests/guests/ppc64/probe.S"), options(raw));

unsafe extern "C" {
    static trivet_probe: u8;
    static trivet_probe_end: u8;
}

/// The probe's first instruction: the reset vector.
const ENTRY: Gpa = Gpa(0x100);

const CODECS: &[Codec] = &[Codec::of::<PartitionScoped>("ppc64 partition-scoped")];

/// The CPU beside the one that runs the cases.
const OTHER: CpuId = CpuId(1);

/// It looks for work this often even if no kick comes.
const LOOKS_PER_SECOND: u64 = 20;

/// Runs the table on a machine with so many CPUs, and ends the run.
pub fn run(machine: &'static Nested, cpus: usize) -> ! {
    let Some(cpu) = machine.epoch().cpu(CpuId(0)) else { refuse(None, &"the boot CPU was taken twice") };
    if cpus > 1
        && let Err(StartCpuError(code)) = cpus::start(OTHER, serve)
    {
        refuse(None, &format_args!("CPU {} does not start: firmware says {code}", OTHER.0));
    }
    let column = || Column { machine, cpu: &cpu, has_other: cpus > 1 };
    Pseries::power_off(if good(column) { Verdict::Success } else { Verdict::Failure })
}

#[cfg(not(feature = "figures"))]
fn good<'a>(column: impl FnMut() -> Column<'a>) -> bool {
    let tally = report::run::<Ppc64, _>("", column, &mut PortText(Pseries::console()));
    matches!(tally, Ok(Tally { failed: 0, .. }))
}

#[cfg(feature = "figures")]
fn good<'a>(column: impl FnOnce() -> Column<'a>) -> bool {
    let (column, mut out) = (column(), PortText(Pseries::console()));
    match figures::run(&Bench::new(&column), &mut out) {
        Ok(()) => true,
        Err(Stop::Fail(why) | Stop::Skip(why)) => {
            // The console has no errors.
            let _ = writeln!(out, "{why}");
            false
        }
    }
}

/// The other CPU's main loop.
fn serve(machine: &'static Nested, cpu: &Cpu) -> ! {
    loop {
        if !errand::carry_out(cpu) {
            machine.idle(cpu, machine.now().after(machine.ticks_per_second() / LOOKS_PER_SECOND));
            machine.interrupts(cpu);
        }
    }
}

/// The one machine, whichever case it is for: a board cannot make another.
struct Column<'a> {
    machine: &'static Nested,
    cpu: &'a Cpu,
    has_other: bool,
}

impl Rig<Ppc64> for Column<'_> {
    fn machine(&self) -> &Nested {
        self.machine
    }

    fn cpu(&self) -> &Cpu {
        self.cpu
    }

    fn codecs(&self) -> &[Codec] {
        CODECS
    }

    fn probe(&self) -> Result<Image, &'static str> {
        let (start, end) = (&raw const trivet_probe, &raw const trivet_probe_end);
        // SAFETY: the assembly between the two symbols, in the image's read-only data.
        let code = unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) };
        Ok(Image { code, entry: ENTRY })
    }

    fn claim(&self, _stage2: &<Ppc64 as Isa>::Stage2, _gpa: Gpa, _size: Order) {}

    fn both(&self, there: &(dyn Fn(&Cpu) + Sync), here: &mut dyn FnMut(&Cpu)) -> bool {
        if self.has_other {
            errand::with(there, || {
                self.machine.kick(OTHER);
                here(self.cpu);
            });
        }
        self.has_other
    }

    /// Real memory checks nothing.
    fn at_rest(&self, _space: &Space<Ppc64>) {}

    /// In the dev profile a broken rule that the code can notice panics instead.
    fn violated(&self) -> bool {
        false
    }
}
