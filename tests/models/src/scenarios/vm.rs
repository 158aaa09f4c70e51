//! A machine with one VM: the world of most scenarios.

use std::num::NonZeroU16;

use backend_fake::{FakeMachine, FakeRadix, FakeStage2};
use hv_core::addr::{Gpa, Hvn, Order, PAGE_SIZE, Pfn};
use hv_core::epoch::{Cpu, Domain};
use hv_core::host::{HugePolicy, Peek};
use hv_core::isa::{Isa, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryConfig};
use hv_core::vcpu::exit::{Access, Fault};

use crate::scenario::{World, as_cpu};

/// The VM.
pub const TAG: VmTag = VmTag(NonZeroU16::MIN);
/// What an heir writes into a frame it got.
const MARK: [u8; 8] = *b"the heir";

/// Frames that are taken by heirs.
const HEIRS: usize = 3;

/// RAM of so many pages.
pub fn ram<I: Isa>(pages: u64) -> MemoryConfig<I> {
    MemoryConfig::from(pages * PAGE_SIZE as u64)
}

/// The world, of either flavour of the fake.
#[derive(Debug)]
pub struct Vm<I: Isa = FakeRadix> {
    /// The machine.
    pub machine: FakeMachine,
    /// The VM's memory.
    pub memory: GuestMemory<I>,
    /// Free frames before there was a VM and a reserve.
    free: u64,
}

impl<I> Vm<I>
where
    I: Isa<Machine = FakeMachine>,
    I::Stage2: FakeStage2<Claim = I::Claim>,
{
    /// A machine of `frames` frames with a VM of `pages` pages of RAM, never mapped in large blocks, and what CPU 1 does
    /// before the race.
    pub fn new<R>(frames: usize, pages: u64, before: impl FnOnce(&Self, &Cpu) -> R) -> Self {
        Self::with(frames, MemoryConfig { huge: HugePolicy::Never, ..ram(pages) }, before)
    }

    /// The same with memory as `config` says.
    pub fn with<R>(frames: usize, config: MemoryConfig<I>, before: impl FnOnce(&Self, &Cpu) -> R) -> Self {
        let machine = FakeMachine::new(frames);
        let free = machine.frames().counts().free;
        let memory = as_cpu(machine.epoch(), 1, |cpu| GuestMemory::new(cpu, &machine, TAG, config));
        let world = Self { machine, memory: memory.expect("memory for a VM"), free };
        as_cpu(world.domain(), 1, |cpu| before(&world, cpu));
        world
    }

    /// The guest stores; see [`store`].
    pub fn store(&self, cpu: &Cpu, at: Gpa, value: u64) -> bool {
        store(&self.machine, &self.memory, cpu, at, value)
    }

    /// The host page that the guest sees at `at`, and its frame.
    pub fn behind(&self, cpu: &Cpu, at: Gpa) -> (Hvn, Pfn) {
        let space = self.memory.space();
        let guard = self.machine.epoch().enter(cpu);
        let slot = space.slots.find(&guard, at.page()).expect("RAM is there");
        let page = slot.hvn(at.page()).expect("the slot shows it");
        match space.host.peek(&self.machine, &guard, page) {
            Peek::Page(found) => (page, found.pfn),
            other => panic!("G2: nothing is behind {at:?}: {other:?}"),
        }
    }

    /// The hypervisor writes for the guest, as a device or a hypercall does.
    pub fn write(&self, cpu: &Cpu, at: Gpa, value: u64) {
        self.memory.write(cpu, &self.machine, at, &value.to_le_bytes()).expect("there is memory");
    }

    /// What the guest's memory holds.
    pub fn read(&self, cpu: &Cpu, at: Gpa) -> u64 {
        read(&self.machine, &self.memory, cpu, at)
    }

    /// A frame is taken for another purpose; see [`inherit`].
    pub fn inherit(&self, cpu: &Cpu) {
        inherit(&self.machine, cpu);
    }
}

/// A guest stores, faulting as often as a race makes it. False if the race made it oftener.
pub fn store<I>(m: &FakeMachine, memory: &GuestMemory<I>, cpu: &Cpu, at: Gpa, value: u64) -> bool
where
    I: Isa<Machine = FakeMachine>,
    I::Stage2: FakeStage2<Claim = I::Claim>,
{
    for _ in 0..2 {
        if m.guest_store(cpu, memory.stage2(), memory.tag(), at, value) {
            return true;
        }
        let claim = memory.stage2().claim(cpu, m, at);
        memory.fault(cpu, m, &Fault { gpa: at, access: Access::Write, claim });
    }
    false
}

/// What a guest's memory holds.
pub fn read<I: Isa<Machine = FakeMachine>>(m: &FakeMachine, memory: &GuestMemory<I>, cpu: &Cpu, at: Gpa) -> u64 {
    let mut word = [0; 8];
    memory.read(cpu, m, at, &mut word).expect("RAM is there");
    u64::from_le_bytes(word)
}

/// Frames are taken for another purpose, and must be nobody else's: as many as a CPU's cache may have kept back of those
/// that were just freed, so that the one in question is among them.
pub fn inherit(m: &FakeMachine, cpu: &Cpu) {
    let heirs: Vec<_> = (0..HEIRS).map_while(|_| m.frames().alloc(cpu, Order::PAGE)).collect();
    for heir in heirs {
        m.zero(heir.pfn(), Order::PAGE);
        m.write(heir.pfn(), 0, &MARK);
        let mut there = [0; 8];
        m.read(heir.pfn(), 0, &mut there);
        assert_eq!(there, MARK, "G1: a store landed in a frame that was the heir's by then");
        m.frames().free(cpu, heir);
    }
}

impl<I> World for Vm<I>
where
    I: Isa<Machine = FakeMachine>,
    I::Stage2: FakeStage2<Claim = I::Claim>,
{
    fn domain(&self) -> &Domain {
        self.machine.epoch()
    }

    fn end(self, cpu: &Cpu) {
        // Nobody invalidates any more, so nothing stops a fault.
        assert!(self.store(cpu, Gpa(0), 1), "G8: a bracket was left open");
        // G2, G3, R9: nobody is at work, so what is derived agrees with what it was derived from.
        self.machine.check(cpu, self.memory.space());
        self.memory.destroy(cpu, &self.machine);
        if let Some(seen) = self.machine.violations().first() {
            panic!("{seen}");
        }
        let now = self.machine.frames().counts();
        assert_eq!(now.free + now.reserve, self.free, "R24: frames were lost");
    }
}
