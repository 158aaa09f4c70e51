//! What a sequence begins with: a machine, a kind of second stage, and two VMs' configurations.

use backend_fake::{FakeMachine, FakeStage2};
use hv_core::addr::GfnRange;
use hv_core::epoch::Cpu;
use hv_core::host::HugePolicy;
use hv_core::isa::Isa;
use hv_core::machine::{CpuId, Machine};
use hv_core::mmu::{GuestMemory, Outcome};
use hv_core::page::Grow;
use hv_core::vcpu::exit::Access;

/// Frames of the machine: all memory of both VMs in large blocks, and as much again.
const FRAMES: usize = 1 << 14;
/// A machine and its first CPU, used again for as long as nothing goes wrong.
pub struct Bed {
    /// The machine.
    pub machine: &'static FakeMachine,
    /// The CPU that the hypervisor runs on.
    pub cpu: Cpu,
}

impl Bed {
    /// A machine that lives as long as the process, as a board's does.
    pub fn new() -> Self {
        let machine: &'static FakeMachine = Box::leak(Box::new(FakeMachine::new(FRAMES)));
        let cpu = machine.epoch().cpu(CpuId(0)).expect("a new machine's CPUs are free");
        Self { machine, cpu }
    }
}

/// A kind of second stage to try, and what only one of them can do.
pub trait Kind: Isa<Machine = FakeMachine, Stage2: FakeStage2<Claim = Self::Claim>> {
    /// Maps a range at once; `None` where a fault carries a claim.
    fn map_range(memory: &GuestMemory<Self>, bed: &Bed, gfns: GfnRange) -> Option<Outcome>;
}

impl Kind for backend_fake::FakeRadix {
    fn map_range(memory: &GuestMemory<Self>, bed: &Bed, gfns: GfnRange) -> Option<Outcome> {
        Some(memory.map_range(&bed.cpu, bed.machine, gfns, Access::Write))
    }
}

impl Kind for backend_fake::FakeHash {
    fn map_range(_memory: &GuestMemory<Self>, _bed: &Bed, _gfns: GfnRange) -> Option<Outcome> {
        None
    }
}

impl Kind for backend_fake::FakeHpt {
    fn map_range(_memory: &GuestMemory<Self>, _bed: &Bed, _gfns: GfnRange) -> Option<Outcome> {
        None
    }
}

/// How the two VMs are made.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// When RAM is mapped in large blocks.
    pub huge: [HugePolicy; 2],
    /// How the object grows.
    pub grow: Grow,
    /// Pages may go to a store.
    pub store: bool,
    /// By how many pages the object lies off its alignment in a VM.
    pub shifts: [u64; 2],
}

impl Setup {
    /// The one that a number means.
    pub fn drawn(number: u8) -> Self {
        let policy = |n: u8| [HugePolicy::Always, HugePolicy::Advise, HugePolicy::Never][usize::from(n % 3)];
        Self {
            huge: [policy(number), policy(number / 3)],
            grow: if (number / 9).is_multiple_of(2) { Grow::Teams } else { Grow::Pages },
            store: !(number / 18).is_multiple_of(3),
            shifts: [0, u64::from(number / 54 % 2)],
        }
    }
}
