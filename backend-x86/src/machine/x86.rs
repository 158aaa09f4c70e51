//! The machine as hv-core sees it.
#![expect(unsafe_code, reason = "lends table cells in memory, reaches frames by address, enables the extension")]

use alloc::vec::Vec;
use core::arch::x86_64::__cpuid;

use hv_core::addr::{Order, PAGE_SHIFT, PAGE_SIZE, Pfn};
use hv_core::epoch::{Cpu, Domain, Retired, WalkGuard};
use hv_core::isa::VmTag;
use hv_core::machine::{CpuId, Instant, Interrupts, Machine};
use hv_core::mmu::flush::{FlushBatch, Flushed, Scope};
use hv_core::page::Frames;
use hv_core::radix::format::TableRef;
use hv_core::sync::AtomicU64;

use super::alarm::{Alarms, Rates};
use super::arrive::{self, CannotRun};
use super::inside::{Cached, Inside, Seen};
use super::tagged::Tagged;
use super::{clock, identify, ram};
use crate::features::{Features, Unsupported};
use crate::host::apic::{self, Message};
use crate::host::vectors::{self, Taken};
use crate::stage2::Processor;
use crate::tags::{Flush, Held};

/// What the board found and the machine needs.
#[derive(Clone, Debug)]
pub struct Found {
    /// APIC identifiers of the CPUs, the boot CPU first.
    pub cpus: Vec<u32>,
    /// How fast its counters count.
    pub rates: Rates,
    /// Calendar time in seconds since 1970 (UTC), 0 if nobody knows.
    pub calendar: u64,
}

/// The machine.
#[derive(Debug)]
pub struct X86Machine {
    domain: Domain,
    frames: Frames,
    features: Features,
    /// APIC identifiers by CPU.
    cpus: Vec<u32>,
    /// A page for each CPU, which the processor keeps its own state in: VM_HSAVE_PA's, or VMXON's.
    hosts: Vec<Pfn>,
    inside: Inside,
    tags: Tagged,
    alarms: Alarms,
    rates: Rates,
    has_random: bool,
    is_tcg: bool,
    /// Calendar time in seconds, less the counter's at that moment.
    calendar: u64,
}

/// The machine cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineError {
    /// The processor lacks something.
    Processor(Unsupported),
    /// No frames, or no heap, for what the processors need.
    NoMemory,
}

impl core::fmt::Display for MachineError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Processor(lacks) => lacks.fmt(f),
            Self::NoMemory => f.write_str("the machine has too little memory"),
        }
    }
}

/// CPUID leaf 1, ECX: RDRAND.
const HAS_RANDOM: u32 = 1 << 30;
/// How often in a second an alarm that rings again does.
const MOST_OFTEN: u64 = 50_000;
/// The generator may have nothing ready (SDM vol. 1, 7.3.17.1).
const TRIES: u32 = 10;

impl X86Machine {
    /// Takes the machine over. Called once, by the boot CPU, on Trivet's own map; each CPU, that one too, then calls
    /// [`X86Machine::arrive`].
    pub fn new(found: &Found, frames: Frames) -> Result<Self, MachineError> {
        // SAFETY: `Features::of` asks for registers that are there.
        let features = Features::of(&identify::leaves(), |register| unsafe { identify::register(register) })
            .map_err(MachineError::Processor)?;
        // SAFETY: no other CPU is up, and no machine is there that could have a table.
        unsafe { crate::stage2::found::find(features.nested()) };
        let domain = Domain::new();
        // The boot CPU, which joins for good later.
        let cpu = domain.cpu(CpuId(0)).ok_or(MachineError::NoMemory)?;
        let host = || {
            let pfn = frames.alloc(&cpu, Order::PAGE)?.into_pfn();
            // SAFETY: the frame was just allocated, and is never given back.
            unsafe { ram::fill(pfn, PAGE_SIZE, 0) };
            Some(pfn)
        };
        let hosts = found.cpus.iter().map(|_| host()).collect::<Option<Vec<_>>>().ok_or(MachineError::NoMemory)?;
        domain.leave(cpu);
        let cpus = found.cpus.len();
        let ticks_per_second = found.rates.ticks_per_second.max(1);
        Ok(Self {
            domain,
            frames,
            features,
            cpus: found.cpus.clone(),
            hosts,
            inside: Inside::new(cpus).ok_or(MachineError::NoMemory)?,
            tags: Tagged::new(cpus, &features).ok_or(MachineError::NoMemory)?,
            alarms: Alarms::new(cpus).ok_or(MachineError::NoMemory)?,
            rates: Rates { ticks_per_second, ..found.rates },
            has_random: __cpuid(1).ecx & HAS_RANDOM != 0,
            is_tcg: identify::is_tcg(),
            calendar: found.calendar.saturating_sub(clock::now().0 / ticks_per_second),
        })
    }

    /// Readies the calling CPU, which is `id`: control registers, and whichever extension there is.
    pub fn arrive(&self, id: CpuId) -> Result<(), CannotRun> {
        let host = *self.hosts.get(usize::from(id.0)).ok_or(CannotRun::Differs)?;
        // SAFETY: a zeroed page of this CPU's own.
        unsafe { arrive::open(&self.features, host) }
    }

    /// A CPU's APIC identifier.
    pub fn apic_id(&self, cpu: CpuId) -> Option<u32> {
        self.cpus.get(usize::from(cpu.0)).copied()
    }

    /// The calling CPU enters a vCPU of the VM with this tag right after this ([`Inside::entering`]).
    #[inline]
    pub fn entering(&self, cpu: &Cpu, tag: VmTag, seen: &mut Seen) -> Cached {
        self.inside.entering(cpu.id(), tag, seen)
    }

    /// It has left it.
    #[inline]
    pub fn left(&self, cpu: &Cpu) {
        self.inside.left(cpu.id());
    }

    /// True if QEMU translates the instructions (TCG), whose SVM is not quite a processor's.
    #[must_use]
    pub const fn is_tcg(&self) -> bool {
        self.is_tcg
    }

    /// True if no guest must run on the boot CPU, because there are others and QEMU translates.
    ///
    /// QEMU has one bit for the chip set's line IGNNE# among its first CPU's flags (`hflags2`), of which others say whether
    /// that CPU is under nested paging and whether GIF is set. Whatever CPU loads its x87 state, by FXRSTOR as Trivet does or by
    /// XRSTOR as guests do, clears that bit, without a lock and not atomically. A VMRUN or #VMEXIT of the first CPU at that
    /// moment is half undone: the host reads its tables through the guest's, or the guest has all the machine's memory for
    /// its own (QEMU 7.2 and 10.0, `target/i386/tcg/fpu_helper.c`, `cpu_set_fpus`).
    #[must_use]
    pub fn boot_cpu_keeps_house(&self) -> bool {
        self.is_tcg && self.cpus.len() > 1
    }

    /// The tag under which the calling CPU caches for the vCPU that holds `held`, and what to flush before it is used.
    #[inline]
    pub fn hold_tag(&self, cpu: &Cpu, held: &mut Option<Held>) -> (Held, Flush) {
        self.tags.hold(cpu.id(), held)
    }

    /// An interrupt comes to the calling CPU at `until`, or earlier. The last call counts.
    #[inline]
    pub fn set_timer(&self, cpu: &Cpu, until: Instant) {
        if self.alarms.change(cpu.id(), until) {
            self.arm(until);
        }
    }

    fn arm(&self, until: Instant) {
        if until == Instant::NEVER {
            apic::stop();
        } else if apic::has_deadline() {
            // 0 would stop it, and is as long ago as 1.
            apic::at(until.0.max(1));
        } else {
            // One that rings again must not do so without end before it is heard.
            let least = if apic::rings_again() { self.rates.ticks_per_second / MOST_OFTEN } else { 0 };
            apic::after(self.rates.timer(until.0.saturating_sub(clock::now().0).max(least)));
        }
    }

    /// Accounts for what the calling CPU has taken.
    fn taken(&self, cpu: &Cpu, taken: Taken) {
        if taken.contains(Taken::TIMER) {
            self.alarms.rang(cpu.id());
        }
    }

    #[inline]
    fn cell(table: TableRef, slot: usize) -> *const AtomicU64 {
        core::ptr::with_exposed_provenance::<AtomicU64>((table.base().0 as usize) << PAGE_SHIFT).wrapping_add(slot)
    }
}

impl Processor for X86Machine {
    #[inline]
    fn features(&self) -> &Features {
        &self.features
    }
}

impl Machine for X86Machine {
    #[inline]
    fn epoch(&self) -> &Domain {
        &self.domain
    }

    #[inline]
    fn frames(&self) -> &Frames {
        &self.frames
    }

    #[inline]
    fn pte<'g>(&'g self, _: &'g WalkGuard<'_>, table: TableRef, slot: usize) -> &'g AtomicU64 {
        let slots = table.order().bytes() as usize / 8;
        // A slot beyond the table would be a bug in the walker; it is confined to the table, whose size is a power of two.
        // SAFETY: a TableRef names a table in memory, which is not given back while the guard lives (R2); all accesses to
        // it, hardware's included, are single-copy atomic.
        unsafe { &*Self::cell(table, slot & (slots - 1)) }
    }

    fn alloc_table(&self, cpu: &Cpu, order: Order) -> Option<TableRef> {
        let table = self.alloc_table_to_fill(cpu, order)?;
        // SAFETY: the frames are ours alone until the table is published.
        unsafe { ram::fill(table.base(), order.bytes() as usize, 0) };
        Some(table)
    }

    fn alloc_table_to_fill(&self, cpu: &Cpu, order: Order) -> Option<TableRef> {
        self.frames.alloc_table(cpu, order)
    }

    fn free_table(&self, cpu: &Cpu, t: Retired<TableRef>) {
        self.frames.free_table(cpu, t);
    }

    #[inline]
    fn zero(&self, first: Pfn, order: Order) {
        // SAFETY: the caller owns the frames and no guest reaches them yet.
        unsafe { ram::fill(first, order.bytes() as usize, 0) };
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        let (Some(from), Some(to)) = (ram::within(from, 0, PAGE_SIZE), ram::within(to, 0, PAGE_SIZE)) else { return };
        // SAFETY: two different frames in memory; the caller owns `to`, and nobody writes to `from`.
        unsafe { ram::copy(to, from, PAGE_SIZE) };
    }

    fn read(&self, frame: Pfn, offset: usize, into: &mut [u8]) {
        let Some(start) = ram::within(frame, offset, into.len()) else { return into.fill(0) };
        // SAFETY: the range lies in one frame of guest memory, which is not freed during the call (the caller holds a
        // guard). The guest may write it meanwhile; the copy is opaque to the compiler, so it is a plain read by the
        // machine, with torn values possible as documented.
        unsafe { ram::copy(into.as_mut_ptr(), start, into.len()) };
    }

    fn write(&self, frame: Pfn, offset: usize, from: &[u8]) {
        let Some(start) = ram::within(frame, offset, from.len()) else { return };
        // SAFETY: as in `read`.
        unsafe { ram::copy(start, from.as_ptr(), from.len()) };
    }

    fn fill(&self, frame: Pfn, word: [u8; 8]) {
        // SAFETY: the caller owns the frame and no guest reaches it yet.
        unsafe { ram::fill(frame, PAGE_SIZE, u64::from_ne_bytes(word)) };
    }

    fn flush(&self, batch: FlushBatch) -> Flushed {
        if batch.scope() != Scope::Nothing {
            self.inside.flush(batch.tag(), |cpu| self.kick(cpu));
        }
        batch.completed()
    }

    fn kick(&self, cpu: CpuId) {
        if let Some(id) = self.apic_id(cpu) {
            apic::send(id, Message::Fixed(vectors::KICK));
        }
    }

    fn interrupts(&self, cpu: &Cpu) -> Interrupts {
        let taken = vectors::take();
        self.taken(cpu, taken);
        if taken.contains(Taken::CONSOLE) { Interrupts::CONSOLE } else { Interrupts::empty() }
    }

    #[inline]
    fn now(&self) -> Instant {
        clock::now()
    }

    fn ticks_per_second(&self) -> u64 {
        self.rates.ticks_per_second
    }

    fn wall_clock(&self) -> u64 {
        self.calendar.saturating_add(clock::now().0 / self.rates.ticks_per_second)
    }

    fn tags(&self) -> [u64; 2] {
        self.tags.count()
    }

    fn random(&self) -> Option<u64> {
        (0..if self.has_random { TRIES } else { 0 }).find_map(|_| identify::random())
    }

    /// What wakes it is taken at once: whoever idles looks after the console next, whatever it was.
    fn idle(&self, cpu: &Cpu, until: Instant) {
        self.set_timer(cpu, until);
        if self.is_tcg {
            apic::look_again();
        }
        self.taken(cpu, vectors::wait());
    }
}
