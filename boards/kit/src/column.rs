//! The conformance table inside the image, in place of guests. Or, with feature `figures`, figures.
//!
//! CPU 0 runs the cases. CPU 1 waits for what a case wants done on another CPU meanwhile (`errand`); the scheduler
//! does not run. Machine, second stage, vCPU and personality are the ones that guests get.

#[cfg(feature = "figures")]
use core::fmt::Write as _;

use conformance::cases::Case;
use conformance::probe::{Image, Nowhere};
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

use crate::cpus::Duty;
use crate::ends::refuse;
use crate::errand;

/// The CPU beside the one that runs the cases.
const OTHER: CpuId = CpuId(1);

/// It looks for work this often even if no kick comes.
const LOOKS_PER_SECOND: u64 = 20;

/// What the board has for the table.
pub struct Setup<I: Isa> {
    /// Its machine.
    pub machine: &'static I::Machine,
    /// CPUs, the boot CPU among them.
    pub cpus: usize,
    /// Starts one.
    pub start: fn(CpuId, Duty<I::Machine>) -> Result<(), StartCpuError>,
    /// The formats of its tables.
    pub codecs: &'static [Codec],
    /// What is its own about the probe.
    pub probe: Probe,
}

/// A probe, whose assembly the board includes.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Its first instruction.
    pub entry: Gpa,
    /// What an access becomes where nothing is.
    pub nowhere: Nowhere,
    /// The instruction that returns.
    pub returns: u64,
}

unsafe extern "C" {
    static trivet_probe: u8;
    static trivet_probe_end: u8;
}

impl Probe {
    fn image(self) -> Image {
        let (start, end) = (&raw const trivet_probe, &raw const trivet_probe_end);
        // SAFETY: the assembly between the two symbols, in the image's read-only data.
        let code = unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) };
        Image { code, entry: self.entry, nowhere: self.nowhere, returns: Some(self.returns) }
    }
}

/// How a column's guests come to a claim: what a fault at this address of the VM with this second stage claims.
pub type Claims<I> = fn(&<I as Isa>::Machine, &Cpu, &<I as Isa>::Stage2, Gpa) -> <I as Isa>::Claim;

/// Runs the table on tables whose faults claim nothing, radix ones, and ends the run.
pub fn run<B: Board>(setup: &Setup<B::Isa>) -> !
where
    B::Isa: Isa<Claim: Default>,
{
    run_with::<B>(setup, |_, _, _, _| Default::default(), core::iter::empty())
}

/// The same on tables of any kind, and before it the cases of this column alone.
pub fn run_with<B: Board>(setup: &Setup<B::Isa>, claims: Claims<B::Isa>, own: impl Iterator<Item = Case<B::Isa>>) -> ! {
    let machine = setup.machine;
    let Some(cpu) = machine.epoch().cpu(CpuId(0)) else { refuse::<B>(&"the boot CPU was taken twice") };
    let has_other = setup.cpus > 1;
    if has_other && let Err(why) = (setup.start)(OTHER, serve) {
        refuse::<B>(&format_args!("CPU {} does not start: {why}", OTHER.0));
    }
    let column = || Column { setup, cpu: &cpu, has_other, claims };
    B::power_off(if good::<B>(column, own) { Verdict::Success } else { Verdict::Failure })
}

#[cfg(not(feature = "figures"))]
fn good<'a, B: Board>(column: impl FnMut() -> Column<'a, B::Isa>, own: impl Iterator<Item = Case<B::Isa>>) -> bool {
    let tally = report::run_with::<B::Isa, _>(own, "", column, &mut PortText(B::console()));
    matches!(tally, Ok(Tally { failed: 0, .. }))
}

/// Figures have no cases of their own.
#[cfg(feature = "figures")]
fn good<'a, B: Board>(column: impl FnOnce() -> Column<'a, B::Isa>, _: impl Iterator<Item = Case<B::Isa>>) -> bool {
    let (column, mut out) = (column(), PortText(B::console()));
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
fn serve<M: Machine>(machine: &'static M, cpu: &Cpu) -> ! {
    loop {
        if !errand::carry_out(cpu) {
            machine.idle(cpu, machine.now().after(machine.ticks_per_second() / LOOKS_PER_SECOND));
            machine.interrupts(cpu);
        }
    }
}

/// The one machine, whichever case it is for: a board cannot make another.
struct Column<'a, I: Isa> {
    setup: &'a Setup<I>,
    cpu: &'a Cpu,
    has_other: bool,
    claims: Claims<I>,
}

impl<I: Isa> Rig<I> for Column<'_, I> {
    fn machine(&self) -> &I::Machine {
        self.setup.machine
    }

    fn cpu(&self) -> &Cpu {
        self.cpu
    }

    fn codecs(&self) -> &[Codec] {
        self.setup.codecs
    }

    fn probe(&self) -> Result<Image, &'static str> {
        Ok(self.setup.probe.image())
    }

    /// Guests that choose sizes choose pages.
    fn claim(&self, stage2: &I::Stage2, gpa: Gpa, _size: Order) -> I::Claim {
        (self.claims)(self.setup.machine, self.cpu, stage2, gpa)
    }

    fn both(&self, there: &(dyn Fn(&Cpu) + Sync), here: &mut dyn FnMut(&Cpu)) -> bool {
        if self.has_other {
            errand::with(there, || {
                self.setup.machine.kick(OTHER);
                here(self.cpu);
            });
        }
        self.has_other
    }

    /// Real memory checks nothing.
    fn at_rest(&self, _space: &Space<I>) {}

    /// In the dev profile a broken rule that the code can notice panics instead.
    fn violated(&self) -> bool {
        false
    }
}
