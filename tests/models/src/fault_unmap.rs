//! A store to a page on one CPU, against the page being taken away on another, and given to an heir.
//!
//! ```text
//!   CPU 1  the guest: store; fault if untranslated; store again      CPU 0  discard (begin, zap, flush, end, free)
//!          or the hypervisor for it: write                                  take a frame, zero it, write a mark
//! ```
//!
//! The discard names the one page, or all pages, and then the tables go as well.
//!
//! Whatever the order, the mark survives (G1, R6, R8), nobody touches a table that was freed (R2), the caches hold nothing
//! stale (R9), and every frame comes back.

use std::num::NonZeroU16;

use backend_fake::{FakeMachine, FakeRadix};
use hv_core::addr::{Gfn, GfnRange, Gpa, Order, PAGE_SIZE};
use hv_core::epoch::Cpu;
use hv_core::isa::VmTag;
use hv_core::machine::{CpuId, Machine};
use hv_core::mmu::GuestMemory;
use hv_core::vcpu::exit::{Access, Fault};

/// Frames enough for both trees, the guest's page and the heir's.
const FRAMES: usize = 12;
/// The VM.
const TAG: VmTag = VmTag(NonZeroU16::MIN);
/// The host table's reach under a model checker.
const RAM: u64 = 4 * PAGE_SIZE as u64;
/// The page both are after.
const TARGET: Gpa = Gpa(0);
const MARK: [u8; 8] = *b"the heir";

/// What the two CPUs share.
#[derive(Debug)]
pub struct World {
    machine: FakeMachine,
    memory: GuestMemory<FakeRadix>,
    /// Free frames before there was a VM.
    free: u64,
}

/// What the guest did before the race begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It never touched the page.
    Untouched,
    /// It has the page mapped, and cached on the CPU that will store.
    Mapped,
}

impl World {
    /// A machine with one VM.
    ///
    /// # Panics
    /// If the world cannot be made, which is a mistake in the model.
    #[must_use]
    pub fn new(before: Before) -> Self {
        let machine = FakeMachine::new(FRAMES);
        let free = machine.frames().counts().free;
        let cpu = machine.epoch().cpu(CpuId(1)).expect("CPU 1 is free");
        let memory = GuestMemory::new(&cpu, &machine, TAG, RAM).expect("memory for a VM");
        let world = Self { machine, memory, free };
        if before == Before::Mapped {
            world.guest_on(&cpu);
        }
        world.machine.epoch().leave(cpu);
        world
    }

    /// CPU 1: the guest stores, faulting as often as it must.
    pub fn guest(&self) {
        let cpu = self.machine.epoch().cpu(CpuId(1)).expect("CPU 1 is free");
        self.guest_on(&cpu);
        self.machine.epoch().leave(cpu);
    }

    fn guest_on(&self, cpu: &Cpu) {
        for _ in 0..2 {
            if self.machine.guest_store(cpu, self.memory.stage2(), TAG, TARGET, 1) {
                return;
            }
            self.memory.fault(cpu, &self.machine, &Fault { gpa: TARGET, access: Access::Write, claim: () });
        }
    }

    /// CPU 1: the hypervisor writes for the guest, as a device or a hypercall does.
    pub fn hypervisor(&self) {
        let cpu = self.machine.epoch().cpu(CpuId(1)).expect("CPU 1 is free");
        self.memory.write(&cpu, &self.machine, TARGET, &[1; 8]).expect("there is memory");
        self.machine.epoch().leave(cpu);
    }

    /// CPU 0: so many pages are taken away, the one that both are after among them; a frame is taken for another purpose, and must be nobody else's.
    pub fn host(&self, pages: u64) {
        let m = &self.machine;
        let cpu = m.epoch().cpu(CpuId(0)).expect("CPU 0 is free");
        self.memory.discard(&cpu, m, GfnRange::new(Gfn(0), pages).expect("some pages"));
        let heir = m.frames().alloc(&cpu, Order::PAGE).expect("a frame for the heir");
        m.zero(heir.pfn(), Order::PAGE);
        m.write(heir.pfn(), 0, &MARK);
        let mut there = [0; 8];
        m.read(heir.pfn(), 0, &mut there);
        assert_eq!(there, MARK, "G1: a store landed in a frame that was the heir's by then");
        m.frames().free(&cpu, heir);
        m.epoch().leave(cpu);
    }

    /// When both are done: no rule was seen broken, and all frames come back.
    pub fn end(self) {
        let cpu = self.machine.epoch().cpu(CpuId(0)).expect("CPU 0 is free");
        self.memory.destroy(&cpu, &self.machine);
        self.machine.epoch().leave(cpu);
        assert_eq!(self.machine.violations(), Vec::<String>::new());
        assert_eq!(self.machine.frames().counts().free, self.free, "frames were lost");
    }
}

#[cfg(all(test, loom))]
mod tests {
    use std::sync::Arc;

    use super::{Before, World};

    /// Preemptions per execution that are explored; the mistakes known so far all show with two.
    const BOUND: usize = 2;

    fn explore(before: Before, pages: u64, other: fn(&World)) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(BOUND);
        model.max_branches = 100_000;
        model.check(move || {
            let world = Arc::new(World::new(before));
            let there = {
                let world = Arc::clone(&world);
                loom::thread::spawn(move || other(&world))
            };
            world.host(pages);
            there.join().expect("the other CPU came through");
            if let Ok(world) = Arc::try_unwrap(world) {
                world.end();
            }
        });
    }

    #[test]
    fn r6_first_touch_against_unmap() {
        explore(Before::Untouched, 1, World::guest);
    }

    #[test]
    fn r8_mapped_page_against_unmap() {
        explore(Before::Mapped, 1, World::guest);
    }

    #[test]
    fn r20_mapped_page_against_unmap_of_its_tables() {
        explore(Before::Mapped, 4, World::guest);
    }

    #[test]
    fn r2_write_against_unmap() {
        explore(Before::Mapped, 1, World::hypervisor);
    }

    #[test]
    fn r2_write_against_unmap_of_its_tables() {
        explore(Before::Mapped, 4, World::hypervisor);
    }
}
