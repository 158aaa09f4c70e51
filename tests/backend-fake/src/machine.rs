//! The fake machine: the arena, an allocator over it, one cache per CPU.

use hv_core::addr::{Gpa, Order, PAGE_SIZE, Pfn, PfnRange};
use hv_core::epoch::{Cpu, Domain, Retired, WalkGuard};
use hv_core::isa::VmTag;
use hv_core::machine::{CpuId, Instant, Interrupts, Machine};
use hv_core::mmu::flush::{FlushBatch, Flushed};
use hv_core::page::Frames;
use hv_core::radix::format::{Prot, TableRef};
use hv_core::sync::{AtomicU64, Mutex, Ordering, spin_loop};

use crate::SkewedStage2;
use crate::ram::{FIRST, Ram};
use crate::tlb::Tlb;

/// How many CPUs it has.
pub const CPUS: usize = 4;

/// The machine.
#[derive(Debug)]
pub struct FakeMachine {
    domain: Domain,
    frames: Frames,
    ram: Ram,
    tlbs: [Mutex<Tlb>; CPUS],
    /// Bit n: CPU n has been kicked.
    kicked: AtomicU64,
    ticks: AtomicU64,
}

impl FakeMachine {
    /// A machine with this many frames of RAM, in two ranges with a gap.
    #[must_use]
    pub fn new(frames: usize) -> Self {
        let low = frames as u64 / 3;
        let ranges = [(FIRST, low), (FIRST + low + 1, frames as u64 - low)];
        let ranges = ranges.map(|(at, n)| PfnRange::new(Pfn(at), n).expect("a machine has RAM"));
        let metadata = vec![0; Frames::metadata_words(&ranges)].leak();
        Self {
            domain: Domain::new(),
            frames: Frames::new(&ranges, metadata).expect("the two ranges do not overlap"),
            ram: Ram::new(frames + 1),
            tlbs: std::array::from_fn(|_| Mutex::new(Tlb::default())),
            kicked: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
        }
    }

    /// The rules that were seen broken.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.ram.violations()
    }

    /// One aligned 8-byte access of a guest that runs on `cpu` with the second stage at `root`. The CPU's cache stays
    /// locked throughout, which is how a flush waits for accesses in flight. False is a second-stage fault.
    pub(crate) fn guest_access(&self, cpu: &Cpu, root: TableRef, tag: VmTag, at: Gpa, access: GuestAccess<'_>) -> bool {
        let Some(tlb) = self.tlbs.get(usize::from(cpu.id().0)) else { return false };
        let mut tlb = tlb.lock();
        let need = match access {
            GuestAccess::Load(_) => Prot::READ,
            GuestAccess::Store(_) => Prot::WRITE,
        };
        let Some(pfn) = tlb.translate(&self.ram, root, tag, at.page(), need) else { return false };
        let offset = at.offset().min(PAGE_SIZE - 8);
        match access {
            GuestAccess::Load(into) => {
                let mut bytes = [0; 8];
                self.ram.read(&self.frames, pfn, offset, &mut bytes, "a guest");
                *into = u64::from_le_bytes(bytes);
            }
            GuestAccess::Store(value) => self.ram.write(&self.frames, pfn, offset, &value.to_le_bytes(), "a guest"),
        }
        true
    }

    /// A guest's store on `cpu`, for worlds that have no vCPU. False is a second-stage fault.
    pub fn guest_store(&self, cpu: &Cpu, stage2: &SkewedStage2, tag: VmTag, at: Gpa, value: u64) -> bool {
        self.guest_access(cpu, stage2.root(), tag, at, GuestAccess::Store(value))
    }

    /// Takes the kick that waits for `cpu`, if one does.
    pub(crate) fn take_kick(&self, cpu: &Cpu) -> bool {
        let bit = 1 << cpu.id().0;
        self.kicked.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }
}

/// What a guest does to memory.
#[derive(Debug)]
pub(crate) enum GuestAccess<'a> {
    Load(&'a mut u64),
    Store(u64),
}

impl Machine for FakeMachine {
    fn epoch(&self) -> &Domain {
        &self.domain
    }

    fn frames(&self) -> &Frames {
        &self.frames
    }

    fn pte<'g>(&'g self, _g: &'g WalkGuard<'_>, table: TableRef, slot: usize) -> &'g AtomicU64 {
        self.ram.cell(table, slot, "a walk")
    }

    fn alloc_table(&self, cpu: &Cpu, order: Order) -> Option<TableRef> {
        let table = self.frames.alloc_table(cpu, order)?;
        self.ram.become_table(table);
        Some(table)
    }

    fn free_table(&self, cpu: &Cpu, t: Retired<TableRef>) {
        self.ram.end_table(*t.get());
        self.frames.free_table(cpu, t);
    }

    fn zero(&self, first: Pfn, order: Order) {
        self.ram.become_data(&self.frames, first, order);
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        self.ram.copy(&self.frames, from, to);
    }

    fn read(&self, frame: Pfn, offset: usize, into: &mut [u8]) {
        self.ram.read(&self.frames, frame, offset, into, "Trivet");
    }

    fn write(&self, frame: Pfn, offset: usize, from: &[u8]) {
        self.ram.write(&self.frames, frame, offset, from, "Trivet");
    }

    fn flush(&self, batch: FlushBatch) -> Flushed {
        for tlb in &self.tlbs {
            tlb.lock().flush(&batch);
        }
        batch.completed()
    }

    fn kick(&self, cpu: CpuId) {
        self.kicked.fetch_or(1 << cpu.0, Ordering::AcqRel);
    }

    fn interrupts(&self, cpu: &Cpu) -> Interrupts {
        self.take_kick(cpu);
        Interrupts::empty()
    }

    fn now(&self) -> Instant {
        Instant(self.ticks.fetch_add(1, Ordering::Relaxed))
    }

    fn ticks_per_second(&self) -> u64 {
        1_000_000
    }

    fn wall_clock(&self) -> u64 {
        0
    }

    fn random(&self) -> Option<u64> {
        None
    }

    fn idle(&self, _cpu: &Cpu, _until: Instant) {
        spin_loop();
    }
}
