//! The checkers, checked: what each of them must notice.

mod arena;
mod context;
mod derived;
mod fast;
mod fixed;
mod hardware;
mod hash;
mod hpt;
mod lives;
mod nest;
mod nested;
mod range;
mod roots;
mod x86;

use std::num::NonZeroU16;

use hv_core::addr::{Gfn, GfnRange, Gpa};
use hv_core::epoch::Cpu;
use hv_core::host::HugePolicy;
use hv_core::isa::{Isa, Stage2, VmTag};
use hv_core::machine::{CpuId, Machine};
use hv_core::mmu::flush::FlushBatch;
use hv_core::mmu::{GuestMemory, MemoryConfig, Outcome};
use hv_core::radix::format::{Leaf, Pte};
use hv_core::vcpu::exit::{Access, Fault};

use crate::{Agent, FakeMachine, FakeStage2};

/// A page of the guest.
const PAGE: Gpa = Gpa(5 << 12);
/// A CPU other than the one that runs the test.
const ONE: CpuId = CpuId(1);
const TAG: VmTag = VmTag(NonZeroU16::MIN);

/// Runs `with` on CPU 0 of a machine of 6 GiB.
fn on_machine(with: impl FnOnce(&FakeMachine, &Cpu)) {
    let m = FakeMachine::new(3 << 19);
    let cpu = m.epoch().cpu(CpuId(0)).unwrap();
    with(&m, &cpu);
}

/// The oracles and rules that have been seen broken.
fn broken(m: &FakeMachine) -> Vec<String> {
    m.violations().iter().filter_map(|v| Some(v.split_once(':')?.0.to_owned())).collect()
}

fn gfns(start: u64, pages: u64) -> GfnRange {
    GfnRange::new(Gfn(start), pages).unwrap()
}

/// One VM of 4 MiB, and the hardware at work for it.
struct World<'a, I: Isa<Machine = FakeMachine>> {
    m: &'a FakeMachine,
    cpu: &'a Cpu,
    memory: GuestMemory<I>,
    agent: Agent<'a>,
}

fn with_memory<I>(huge: HugePolicy, with: impl FnOnce(&World<'_, I>))
where
    I: Isa<Machine = FakeMachine>,
    I::Stage2: FakeStage2<Claim = I::Claim>,
{
    on_machine(|m, cpu| {
        let config = MemoryConfig { huge, ..MemoryConfig::from(4 << 20) };
        let memory = GuestMemory::new(cpu, m, TAG, config).unwrap();
        let agent = m.agent(memory.stage2(), TAG);
        let world = World { m, cpu, memory, agent };
        with(&world);
        world.memory.destroy(cpu, m);
    });
}

impl<I: Isa<Machine = FakeMachine>> World<'_, I>
where
    I::Stage2: FakeStage2<Claim = I::Claim>,
{
    fn fault(&self, at: Gpa, claim: I::Claim) -> Outcome {
        self.memory.fault(self.cpu, self.m, &Fault { gpa: at, access: Access::Write, claim })
    }

    fn claim(&self, at: Gpa) -> I::Claim {
        self.memory.stage2().claim(self.cpu, self.m, at)
    }

    fn map(&self, at: Gpa) {
        assert_eq!(self.fault(at, self.claim(at)), Outcome::Mapped);
    }

    /// The translation of `PAGE`.
    fn leaf(&self) -> Leaf {
        match self.memory.stage2().lookup(self.cpu, self.m, PAGE.page()) {
            Pte::Leaf(leaf) => leaf,
            other => panic!("the page is mapped by {other:?}"),
        }
    }

    /// Removes translations, and forgets to flush.
    fn unmap_without_flush(&self, r: GfnRange) {
        let mut batch = FlushBatch::new(TAG);
        let _ = self.memory.stage2().unmap(self.cpu, self.m, r, &mut batch, None);
        batch.completed().release(self.cpu, self.m);
    }

    fn check(&self) {
        self.m.check(self.cpu, self.memory.space());
    }
}
