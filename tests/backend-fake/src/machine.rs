//! The fake machine: the arena, an allocator over it, the CPUs' caches.

use hv_core::addr::{Gpa, Order, Pfn, PfnRange};
use hv_core::epoch::{Cpu, Domain, Retired, WalkGuard};
use hv_core::isa::VmTag;
use hv_core::machine::{CpuId, Instant, Interrupts, Machine};
use hv_core::mmu::flush::{FlushBatch, Flushed};
use hv_core::page::Frames;
use hv_core::radix::format::TableRef;
use hv_core::sync::{AtomicU64, Mutex, MutexGuard, Ordering, SMALL, spin_loop};

use crate::agent::Agent;
use crate::cells::{CHECKED, WORDS};
use crate::ram::{FIRST, Ram};
use crate::stage2::FakeStage2;
use crate::tlb::Caches;

/// What a table that somebody else held may have in it.
const ANYTHING: u64 = 0x5a5a_5a5a_5a5a_5a5a;
/// How many CPUs it has.
pub const CPUS: usize = if SMALL { 3 } else { 4 };

/// The machine.
#[derive(Debug)]
pub struct FakeMachine {
    domain: Domain,
    frames: Frames,
    pub(crate) ram: Ram,
    pub(crate) caches: Caches,
    /// Held by a CPU during each access.
    accesses: [Mutex<()>; CPUS],
    /// Bit n: CPU n has been kicked.
    kicked: AtomicU64,
    ticks: AtomicU64,
    /// Names of guests of guests that are taken, a bit each.
    #[cfg(not(any(loom, shuttle, small)))]
    pub(crate) names: AtomicU64,
    /// Their entries of the partition table: the root of each one's derived table.
    #[cfg(not(any(loom, shuttle, small)))]
    pub(crate) children: Mutex<Vec<(VmTag, TableRef)>>,
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
            caches: Caches::default(),
            accesses: std::array::from_fn(|_| Mutex::new(())),
            kicked: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            #[cfg(not(any(loom, shuttle, small)))]
            names: AtomicU64::new(0),
            #[cfg(not(any(loom, shuttle, small)))]
            children: Mutex::new(Vec::new()),
        }
    }

    /// The rules that were seen broken.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.ram.violations()
    }

    /// Every word of a table, for whoever compares it as a whole: faster than cell by cell.
    pub fn words(&self, table: TableRef) -> impl Iterator<Item = u64> {
        let rows = (0..table.order().pages() as usize).map(move |frame| self.ram.row(table, frame, "a test"));
        rows.flatten().map(|word| word.load(Ordering::Relaxed))
    }

    /// What the CPUs' hardware can do for the VM with this second stage.
    pub fn agent(&self, stage2: &impl FakeStage2, tag: VmTag) -> Agent<'_> {
        Agent::new(self, tag, stage2.view())
    }

    /// A guest's store on `cpu`, for worlds that have no vCPU. False is a second-stage fault.
    pub fn guest_store(&self, cpu: &Cpu, stage2: &impl FakeStage2, tag: VmTag, at: Gpa, value: u64) -> bool {
        self.agent(stage2, tag).store(cpu.id(), at, value)
    }

    /// An access of `cpu` begins; it ends with the guard.
    ///
    /// # Panics
    /// If there is no such CPU.
    pub(crate) fn access(&self, cpu: CpuId) -> MutexGuard<'_, ()> {
        self.accesses[usize::from(cpu.0)].lock()
    }

    /// The allocator.
    pub(crate) fn all_frames(&self) -> &Frames {
        &self.frames
    }

    /// A block is put to a new use, so nobody may translate to it any more (G1).
    fn new_use(&self, first: Pfn, order: Order) {
        if let Some((cpu, entry)) = self.caches.names_frame(first, order) {
            self.ram.violation(format!("G1: {first:?} of {order:?} finds another use while {cpu:?} holds {entry:?}"));
        }
    }

    /// Takes the kick that waits for `cpu`, if one does.
    pub(crate) fn take_kick(&self, cpu: &Cpu) -> bool {
        let bit = 1 << cpu.id().0;
        self.kicked.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }
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
        self.new_use(table.base(), order);
        self.ram.become_table(table);
        Some(table)
    }

    fn alloc_table_to_fill(&self, cpu: &Cpu, order: Order) -> Option<TableRef> {
        let table = self.alloc_table(cpu, order)?;
        // To the model checkers each of these stores would be a step of the world's.
        if !CHECKED {
            let entries = order.pages() as usize * WORDS;
            (0..entries).for_each(|slot| self.ram.cell(table, slot, "who takes it").store(ANYTHING, Ordering::Relaxed));
        }
        Some(table)
    }

    fn free_table(&self, cpu: &Cpu, t: Retired<TableRef>) {
        if let Some(cpu) = self.caches.names_table(*t.get()) {
            self.ram.violation(format!("G6: {:?} is freed while {cpu:?} has its address cached", t.get()));
        }
        self.ram.end_table(*t.get());
        self.frames.free_table(cpu, t);
    }

    fn zero(&self, first: Pfn, order: Order) {
        self.new_use(first, order);
        self.ram.become_data(&self.frames, first, order);
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        self.new_use(to, Order::PAGE);
        self.ram.copy(&self.frames, from, to);
    }

    fn read(&self, frame: Pfn, offset: usize, into: &mut [u8]) {
        self.ram.read(&self.frames, frame, offset, into, "Trivet");
    }

    fn write(&self, frame: Pfn, offset: usize, from: &[u8]) {
        self.ram.write(&self.frames, frame, offset, from, "Trivet");
    }

    fn flush(&self, batch: FlushBatch) -> Flushed {
        for (cpu, access) in self.accesses.iter().enumerate() {
            // Waits for the access in flight, whose translation may be the one.
            let _quiet = access.lock();
            self.caches.flush(cpu, &batch);
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
