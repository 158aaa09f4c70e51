//! The machine as hv-core sees it.
#![expect(unsafe_code, reason = "lends table cells in memory, reaches frames by address")]

use alloc::vec::Vec;

use aarch64_cpu::registers::{CNTFRQ_EL0, MPIDR_EL1, Readable as _, VTCR_EL2, VTTBR_EL2, Writeable as _};
use hv_core::addr::{Order, PAGE_SHIFT, PAGE_SIZE, Pfn};
use hv_core::epoch::{Cpu, Domain, Retired, WalkGuard};
use hv_core::machine::{CpuId, Instant, Interrupts, Machine};
use hv_core::mmu::flush::{FlushBatch, Flushed};
use hv_core::page::Frames;
use hv_core::radix::format::TableRef;
use hv_core::sync::AtomicU64;

use super::tlb::{self, Plan};
use super::{clock, icc, identify, ram};
use crate::el2::inventory::AFFINITY;
use crate::features::{Features, Unsupported};
use crate::stage2::{Processor, registers};

/// What the board found and the machine needs.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Affinities of the CPUs, as in MPIDR_EL1, the boot CPU first.
    pub cpus: Vec<u64>,
    /// Where a PL031 calendar clock is.
    pub rtc: Option<u64>,
    /// The console's interrupt.
    pub console_irq: Option<u32>,
}

/// The machine.
#[derive(Debug)]
pub struct ArmMachine {
    domain: Domain,
    frames: Frames,
    features: Features,
    /// Affinities by CPU.
    cpus: Vec<u64>,
    /// The address of a root that is never written: what VTTBR_EL2 points at while no VM is loaded.
    holes: u64,
    ticks_per_second: u64,
    console_irq: Option<u32>,
    /// Calendar time in seconds, less the counter's at that moment.
    calendar: u64,
}

/// The machine cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineError {
    /// The processor lacks something.
    Processor(Unsupported),
    /// A CPU differs from the boot CPU.
    Differs,
    /// No frames for the empty root.
    NoMemory,
    /// Firmware has not said how fast the counter counts.
    NoFrequency,
}

impl core::fmt::Display for MachineError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Processor(lacks) => lacks.fmt(f),
            Self::Differs => f.write_str("a CPU differs from the first, and guests are moved between them"),
            Self::NoMemory => f.write_str("the machine has too little memory"),
            Self::NoFrequency => f.write_str("CNTFRQ_EL0 is 0"),
        }
    }
}

impl ArmMachine {
    /// Takes the machine over. Called once, by the boot CPU, with EL2's identity map on; each CPU, that one too, then
    /// calls [`ArmMachine::arrive`].
    pub fn new(found: &Found, frames: Frames) -> Result<Self, MachineError> {
        let features = Features::of(&identify::registers()).map_err(MachineError::Processor)?;
        let ticks_per_second = CNTFRQ_EL0.get();
        if ticks_per_second == 0 {
            return Err(MachineError::NoFrequency);
        }
        let domain = Domain::new();
        // The boot CPU, which joins for good later.
        let cpu = domain.cpu(CpuId(0)).ok_or(MachineError::NoMemory)?;
        let order = Order::new(1).ok_or(MachineError::NoMemory)?;
        let holes = frames.alloc(&cpu, order).ok_or(MachineError::NoMemory)?.into_pfn();
        domain.leave(cpu);
        // SAFETY: the frames were just allocated, and are never given back.
        unsafe { ram::clear(holes, order.bytes() as usize, &features) };
        // SAFETY: the device tree says that it is there; the board maps what is not RAM as devices.
        let seconds = found.rtc.map_or(0, |rtc| u64::from(unsafe { clock::calendar(rtc) }));
        Ok(Self {
            domain,
            frames,
            features,
            cpus: found.cpus.clone(),
            holes: holes.0 << PAGE_SHIFT,
            ticks_per_second,
            console_irq: found.console_irq,
            calendar: seconds.saturating_sub(clock::now().0 / ticks_per_second),
        })
    }

    /// Readies the calling CPU: its second stage has no table, and nothing that it found in its caches is left.
    pub fn arrive(&self) -> Result<(), MachineError> {
        if Features::of(&identify::registers()) != Ok(self.features) {
            return Err(MachineError::Differs);
        }
        VTCR_EL2.set(registers::vtcr(&self.features));
        self.leave_guest();
        tlb::forget_all_here();
        clock::stop();
        Ok(())
    }

    /// Loads the empty root in place of a guest's: no VM is loaded on this CPU.
    #[inline]
    pub fn leave_guest(&self) {
        VTTBR_EL2.set(self.holes);
    }

    /// A CPU's affinity, as in MPIDR_EL1.
    pub fn affinity(&self, cpu: CpuId) -> Option<u64> {
        self.cpus.get(usize::from(cpu.0)).copied()
    }

    /// The number of the calling CPU.
    pub fn this_cpu(&self) -> Option<CpuId> {
        let affinity = MPIDR_EL1.get() & AFFINITY;
        let at = self.cpus.iter().position(|cpu| cpu & AFFINITY == affinity)?;
        Some(CpuId(u16::try_from(at).ok()?))
    }

    #[inline]
    fn cell(table: TableRef, slot: usize) -> *const AtomicU64 {
        core::ptr::with_exposed_provenance::<AtomicU64>((table.base().0 as usize) << PAGE_SHIFT).wrapping_add(slot)
    }
}

/// Interrupts that are taken in one go; a level that does not fall is met again at the next exit.
const AT_ONCE: usize = 8;

impl Processor for ArmMachine {
    #[inline]
    fn features(&self) -> &Features {
        &self.features
    }
}

impl Machine for ArmMachine {
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
        unsafe { ram::clear(table.base(), order.bytes() as usize, &self.features) };
        Some(table)
    }

    fn alloc_table_to_fill(&self, cpu: &Cpu, order: Order) -> Option<TableRef> {
        self.frames.alloc_table(cpu, order)
    }

    fn free_table(&self, cpu: &Cpu, t: Retired<TableRef>) {
        self.frames.free_table(cpu, t);
    }

    fn zero(&self, first: Pfn, order: Order) {
        let bytes = order.bytes() as usize;
        // SAFETY: the caller owns the frames and no guest reaches them yet.
        unsafe { ram::clear(first, bytes, &self.features) };
        ram::publish((first.0 as usize) << PAGE_SHIFT, bytes, &self.features);
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        let (Some(from), Some(to)) = (ram::within(from, 0, PAGE_SIZE), ram::within(to, 0, PAGE_SIZE)) else { return };
        ram::obtain(from.addr(), PAGE_SIZE, &self.features);
        // SAFETY: two different frames in memory; the caller owns `to`, and nobody writes to `from`.
        unsafe { ram::copy(to, from, PAGE_SIZE) };
        ram::publish(to.addr(), PAGE_SIZE, &self.features);
    }

    fn read(&self, frame: Pfn, offset: usize, into: &mut [u8]) {
        let Some(start) = ram::within(frame, offset, into.len()) else { return into.fill(0) };
        ram::obtain(start.addr(), into.len(), &self.features);
        // SAFETY: the range lies in one frame of guest memory, which is not freed during the call (the caller holds a
        // guard). The guest may write it meanwhile; the copy is opaque to the compiler, so it is a plain read by the
        // machine, with torn values possible as documented.
        unsafe { ram::copy(into.as_mut_ptr(), start, into.len()) };
    }

    fn write(&self, frame: Pfn, offset: usize, from: &[u8]) {
        let Some(start) = ram::within(frame, offset, from.len()) else { return };
        // SAFETY: as in `read`.
        unsafe { ram::copy(start, from.as_ptr(), from.len()) };
        ram::publish(start.addr(), from.len(), &self.features);
    }

    fn fill(&self, frame: Pfn, word: [u8; 8]) {
        // SAFETY: the caller owns the frame and no guest reaches it yet.
        unsafe { ram::fill(frame, u64::from_ne_bytes(word)) };
        ram::publish((frame.0 as usize) << PAGE_SHIFT, PAGE_SIZE, &self.features);
    }

    fn flush(&self, batch: FlushBatch) -> Flushed {
        tlb::flush(Plan::of(batch.scope()), registers::tagged(batch.tag(), self.holes));
        batch.completed()
    }

    fn kick(&self, cpu: CpuId) {
        if let Some(affinity) = self.affinity(cpu) {
            icc::kick(affinity);
        }
    }

    fn interrupts(&self, _: &Cpu) -> Interrupts {
        for _ in 0..AT_ONCE {
            let Some(id) = icc::acknowledge() else { break };
            icc::drop_priority(id);
            if clock::GUEST_TIMERS.contains(&id) {
                // Active until the guest ends it, or until its vCPU leaves (`vcpu/`): the line stays up meanwhile.
                continue;
            }
            if id == clock::TIMER {
                clock::stop();
            }
            icc::deactivate(id);
            if Some(id) == self.console_irq {
                // The line falls once the console has been read, which is what the caller does next.
                return Interrupts::CONSOLE;
            }
        }
        Interrupts::empty()
    }

    #[inline]
    fn now(&self) -> Instant {
        clock::now()
    }

    fn ticks_per_second(&self) -> u64 {
        self.ticks_per_second
    }

    fn wall_clock(&self) -> u64 {
        self.calendar.saturating_add(clock::now().0 / self.ticks_per_second)
    }

    fn random(&self) -> Option<u64> {
        aarch64_cpu::asm::random::ArmRng::new()?.rndr()
    }

    fn idle(&self, _: &Cpu, until: Instant) {
        clock::sleep(until);
    }
}
