//! What only Trivet does: faults through both tables, commit sections, splits. One VM with 64 MiB of 4 KiB pages.

use std::hint::black_box;
use std::num::NonZeroU16;

use hv_core::addr::{Gfn, GfnRange, Gpa, Hvn, HvnRange, Order, Pfn};
use hv_core::epoch::Cpu;
use hv_core::host::{Backing, HostFormat, HugePolicy, Populate, Region, Regions};
use hv_core::isa::{Stage2, Unmapped, VmTag};
use hv_core::machine::{CpuId, Machine};
use hv_core::memslot::Slot;
use hv_core::mmu::flush::FlushBatch;
use hv_core::mmu::{GuestMemory, MemoryConfig, Outcome, Space};
use hv_core::radix::format::{Leaf, Prot, Rc};
use hv_core::radix::{Radix, Split};
use hv_core::vcpu::exit::{Access, Fault};

use crate::run::{Competitor, Op};
use crate::subject::BATCH;
use bench_host::isa::Bench;
use bench_host::machine::BenchMachine;

/// Pages of guest memory.
pub const PAGES: u64 = 1 << 14;
/// Large leaves that are split.
pub const LEAVES: u64 = 256;
/// How often what costs a few nanoseconds is done.
pub const TIMES: u64 = 1 << 18;
/// Guest memory, as much again for a second VM, tables, and the tables of splits.
const RAM: usize = 256 << 20;
/// Where the second VM's pages lie in its host space.
const BASE: Hvn = Hvn(1 << 32);

/// The VM.
pub struct Vm {
    cpu: Cpu,
    machine: &'static BenchMachine,
    memory: GuestMemory<Bench>,
    /// The same amount of memory, all of it there, as `mmu` sees it.
    space: Space<Bench>,
    slot: Slot,
}

impl Vm {
    /// A VM on a machine of its own.
    pub fn new() -> Self {
        let machine: &'static BenchMachine = Box::leak(Box::new(BenchMachine::new(RAM)));
        let cpu = machine.epoch().cpu(CpuId(0)).expect("the machine's first CPU");
        let tag = |n| VmTag(NonZeroU16::new(n).expect("not 0"));
        let config = MemoryConfig { huge: HugePolicy::Never, ..MemoryConfig::from(PAGES << 12) };
        let memory = GuestMemory::new(&cpu, machine, tag(1), config).expect("memory for a VM");
        let slot = Slot::new(all(), BASE, Prot::all()).expect("in reach");
        let mut regions = Regions::default();
        let hvns = HvnRange::new(BASE, PAGES).expect("not empty");
        regions.add(Region::new(hvns, Backing::Anon, HugePolicy::Never).expect("memory")).expect("the first");
        let space = Space::new(&cpu, machine, tag(2), regions, &[slot]).expect("memory for a VM");
        for n in 0..PAGES {
            let populated = space.host.populate(&cpu, machine, Hvn(BASE.0 + n));
            assert!(matches!(populated, Populate::Fresh(_)), "{populated:?}");
        }
        Self { cpu, machine, memory, space, slot }
    }

    fn fault_all(&self) {
        for n in 0..PAGES {
            self.fault(n);
        }
    }

    fn fault(&self, page: u64) {
        let fault = Fault { gpa: Gpa(page << 12), access: Access::Write, claim: () };
        assert_eq!(self.memory.fault(&self.cpu, self.machine, &fault), Outcome::Mapped);
    }

    /// Takes all translations away from a second stage, and leaves the host's pages.
    fn forget(&self, stage2: &<Bench as hv_core::isa::Isa>::Stage2) {
        loop {
            let mut batch = FlushBatch::new(self.space.tag);
            let end = Stage2::<Bench>::unmap(stage2, &self.cpu, self.machine, all(), &mut batch, None);
            self.machine.flush(batch).release(&self.cpu, self.machine);
            if end == Unmapped::All {
                return;
            }
        }
    }

    /// Publishes all pages of the second VM, 512 a section.
    fn install_all(&self) {
        let Self { cpu, machine, space, slot, .. } = self;
        let to = space.target(machine, (), Prot::WRITE);
        for start in (0..PAGES).step_by(BATCH as usize) {
            let seq = space.mmu.sample();
            let section = space.mmu.enter(cpu, machine.epoch());
            let pages = HvnRange::new(Hvn(BASE.0 + start), BATCH).expect("not empty");
            let fresh = section.revalidate(seq, pages).expect("nothing is invalidated");
            let gfns = GfnRange::new(Gfn(start), BATCH).expect("not empty");
            assert_eq!(fresh.install_each(&to, &space.host, slot, gfns), Ok(gfns.end()));
        }
    }
}

fn all() -> GfnRange {
    GfnRange::new(Gfn(0), PAGES).expect("not empty")
}

impl Competitor for Vm {
    fn round(&mut self, measure: &mut dyn FnMut(Op, &mut dyn FnMut())) {
        let Self { cpu, machine, memory, space, .. } = &*self;
        measure(Op::Guard, &mut || {
            for _ in 0..TIMES {
                black_box(machine.epoch().enter(black_box(cpu)));
            }
        });
        let page = HvnRange::new(BASE, 1).expect("not empty");
        measure(Op::Section, &mut || {
            for _ in 0..TIMES {
                let seq = space.mmu.sample();
                let section = space.mmu.enter(black_box(cpu), machine.epoch());
                black_box(section.revalidate(seq, page).expect("nothing is invalidated"));
            }
        });
        measure(Op::FaultFresh, &mut || self.fault_all());
        self.forget(memory.stage2());
        for n in (0..PAGES).step_by(BATCH as usize) {
            self.fault(n);
        }
        measure(Op::FaultPresent, &mut || self.fault_all());
        memory.log_start(cpu, machine).expect("memory for a log");
        measure(Op::DirtyFault, &mut || self.fault_all());
        measure(Op::Harvest, &mut || {
            let found = memory.log_harvest(cpu, machine, &mut |pages| _ = black_box(pages));
            assert_eq!(found.pages, PAGES);
        });
        memory.log_stop(cpu, machine);
        measure(Op::Discard, &mut || memory.discard(cpu, machine, all()));
        self.forget(&space.stage2);
        measure(Op::InstallEach, &mut || self.install_all());
        let large = Radix::<HostFormat>::new(cpu, *machine).expect("a root");
        let leaf = |n: u64| Leaf { pfn: Pfn(n << 9), prot: Prot::all(), rc: Rc::empty() };
        for n in 0..LEAVES {
            let guard = machine.epoch().enter(cpu);
            large.map(*machine, &guard, n << 9, Order::MIB2, leaf(n)).expect("nothing is mapped there");
        }
        measure(Op::Split, &mut || {
            for n in 0..LEAVES {
                let done = large.split(*machine, &machine.epoch().enter(cpu), n << 9, Order::PAGE);
                assert_eq!(done, Ok(Split::Done { large: Order::MIB2, small: Order::PAGE }));
            }
        });
        large.destroy(cpu, *machine, |_, _, _| {});
    }
}
