//! The conformance table on the fake: the programs `host-radix` and `host-hash` are this, for one flavour each.
//!
//! Prints one line a case (see `conformance::report`) and fails if any case does. `--filter TEXT` runs the cases whose
//! names contain TEXT.

use std::process::ExitCode;

use conformance::cases::Case;
use conformance::probe::{Image, Nowhere};
use conformance::report::{Tally, run_with};
use conformance::rig::{Codec, Rig};
use hv_core::addr::{Gpa, Order};
use hv_core::epoch::Cpu;
use hv_core::isa::Isa;
use hv_core::machine::{CpuId, Machine};
use hv_core::mmu::Space;

use crate::machine::FakeMachine;
use crate::own::Own;
use crate::stage2::FakeStage2;

/// Frames of the machine: 6 GiB, so that leaves of every size can be had. A frame costs nothing until it is touched.
const FRAMES: usize = 3 << 19;

/// A machine of its own for each case. It lives until the process ends, as a board's does.
pub struct HostRig {
    machine: &'static FakeMachine,
    cpu: Cpu,
    codecs: &'static [Codec],
}

impl HostRig {
    /// A new machine, and its first CPU.
    ///
    /// # Panics
    /// Never: a new machine's CPUs are free.
    #[must_use]
    pub fn new(codecs: &'static [Codec]) -> Self {
        let machine: &'static FakeMachine = Box::leak(Box::new(FakeMachine::new(FRAMES)));
        let cpu = machine.epoch().cpu(CpuId(0)).expect("a new machine's CPUs are free");
        Self { machine, cpu, codecs }
    }
}

impl<I> Rig<I> for HostRig
where
    I: Isa<Machine = FakeMachine>,
    I::Stage2: FakeStage2<Claim = I::Claim>,
{
    fn machine(&self) -> &FakeMachine {
        self.machine
    }

    fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    fn codecs(&self) -> &[Codec] {
        self.codecs
    }

    fn probe(&self) -> Result<Image, &'static str> {
        // The fake's probe is no code; something is loaded all the same, so that loading is tried.
        Ok(Image { code: b"probe", entry: Gpa(0), nowhere: Nowhere::Exception, returns: None })
    }

    fn claim(&self, stage2: &I::Stage2, gpa: Gpa, size: Order) -> I::Claim {
        stage2.claim_of(&self.cpu, self.machine, gpa, size)
    }

    fn at_rest(&self, space: &Space<I>) {
        self.machine.check(&self.cpu, space);
    }

    fn both(&self, there: &(dyn Fn(&Cpu) + Sync), here: &mut dyn FnMut(&Cpu)) -> bool {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let domain = self.machine.epoch();
                let cpu = domain.cpu(CpuId(1)).expect("one case at a time uses CPU 1");
                there(&cpu);
                domain.leave(cpu);
            });
            here(&self.cpu);
        });
        true
    }

    fn own(&self, work: &mut dyn FnMut()) {
        let _own = Own::begin();
        work();
    }

    fn violated(&self) -> bool {
        let seen = self.machine.violations();
        for what in &seen {
            eprintln!("{what}");
        }
        !seen.is_empty()
    }
}

/// Standard output as the report wants it.
struct Out;

impl std::fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        print!("{text}");
        Ok(())
    }
}

/// Runs the table on flavour `I`, which has these formats.
#[must_use]
pub fn table<I>(codecs: &'static [Codec]) -> ExitCode
where
    I: Isa<Machine = FakeMachine>,
    I::Stage2: FakeStage2<Claim = I::Claim>,
{
    table_with::<I>(codecs, std::iter::empty())
}

/// The same, and before it cases of this flavour alone.
#[must_use]
pub fn table_with<I>(codecs: &'static [Codec], own: impl Iterator<Item = Case<I>>) -> ExitCode
where
    I: Isa<Machine = FakeMachine>,
    I::Stage2: FakeStage2<Claim = I::Claim>,
{
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filter = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => "",
        ["--filter", text] => text,
        _ => {
            eprintln!("usage: {} [--filter TEXT]", env!("CARGO_PKG_NAME"));
            return ExitCode::from(2);
        }
    };
    match run_with::<I, _>(own, filter, || HostRig::new(codecs), &mut Out) {
        Ok(Tally { failed: 0, .. }) => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}
