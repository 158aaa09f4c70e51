//! The conformance column `host-radix`: the table on the fake machine, and the codecs of every format there is.
//!
//! Prints one line a case (see `conformance::report`) and fails if any case does. `--filter TEXT` runs the cases whose
//! names contain TEXT.

use std::process::ExitCode;

use backend_fake::{FakeMachine, FakeRadix, Skewed, SkewedStage2};
use backend_ppc64::radix::PartitionScoped;
use conformance::probe::Image;
use conformance::report::{Tally, run};
use conformance::rig::{Codec, Rig};
use hv_core::addr::Gpa;
use hv_core::epoch::Cpu;
use hv_core::machine::{CpuId, Machine};
use hv_core::mmu::Space;

/// Frames of the machine: 6 GiB, so that leaves of every size can be had. A frame costs nothing until it is touched.
const FRAMES: usize = 3 << 19;

const CODECS: &[Codec] = &[Codec::of::<Skewed>("skewed"), Codec::of::<PartitionScoped>("ppc64 partition-scoped")];

/// A machine of its own for each case. It lives until the process ends, as a board's does.
struct HostRig {
    machine: &'static FakeMachine,
    cpu: Cpu,
}

impl HostRig {
    fn new() -> Self {
        let machine: &'static FakeMachine = Box::leak(Box::new(FakeMachine::new(FRAMES)));
        let cpu = machine.epoch().cpu(CpuId(0)).expect("a new machine's CPUs are free");
        Self { machine, cpu }
    }
}

impl Rig<FakeRadix> for HostRig {
    fn machine(&self) -> &FakeMachine {
        self.machine
    }

    fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    fn codecs(&self) -> &[Codec] {
        CODECS
    }

    fn probe(&self) -> Result<Image, &'static str> {
        // The fake's probe is no code; something is loaded all the same, so that loading is tried.
        Ok(Image { code: b"probe", entry: Gpa(0) })
    }

    fn claim(&self, _stage2: &SkewedStage2, _gpa: Gpa) {}

    fn at_rest(&self, space: &Space<FakeRadix>) {
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

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filter = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => "",
        ["--filter", text] => text,
        _ => {
            eprintln!("usage: host-radix [--filter TEXT]");
            return ExitCode::from(2);
        }
    };
    match run::<FakeRadix, _>(filter, HostRig::new, &mut Out) {
        Ok(Tally { failed: 0, .. }) => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}
