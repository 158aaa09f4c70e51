//! The machine under a nested hypervisor: a PAPR partition whose platform offers nested HV (interface version 1).
//!
//! Trivet runs in real mode, so a frame's address is its number times the page size, and table cells are plain memory.
//!
//! Flushing. The platform drops a guest's cached translations whenever the guest is entered or left (QEMU), or when told
//! (`H_TLB_INVALIDATE`; elsewhere). A CPU that is inside the guest may therefore keep stale ones until it leaves:
//!
//! ```text
//!   enterer:  inside = tag, entries += 1; full fence; H_ENTER_NESTED (walks the tables afresh); inside = 0
//!   flusher:  tables changed; full fence; for each CPU with inside == tag: kick, wait until inside or entries changed
//! ```
//!
//! Either the flusher sees the CPU inside and waits for its exit, or the CPU's entry comes after the change (R9).
#![expect(unsafe_code, reason = "lends table cells in real memory, makes hypercalls")]

use alloc::vec::Vec;

use hv_core::addr::{Order, PAGE_SHIFT, PAGE_SIZE, Pfn};
use hv_core::epoch::{Cpu, Domain, MAX_CPUS, Retired, WalkGuard};
use hv_core::isa::VmTag;
use hv_core::machine::{CpuId, Instant, Interrupts, Machine};
use hv_core::mmu::flush::{FlushBatch, Flushed, Scope};
use hv_core::page::Frames;
use hv_core::radix::format::TableRef;
use hv_core::sync::{AtomicU32, AtomicU64, Ordering, fence, spin_loop};

use super::hcall::{
    H_CEDE, H_ENTER_NESTED, H_GET_CPU_CHARACTERISTICS, H_RANDOM, H_SET_PARTITION_TABLE, H_SUCCESS, H_TLB_INVALIDATE,
    hcall,
};
use super::irq::{self, Taken};
use super::layout::{HvGuestState, Registers};
use super::{ram, rtas, sprs};
use crate::boot::inventory::{Inventory, RtasTokens};
use crate::papr::Characteristics;

/// Partitions in the table: one page of 16-byte entries, the size code 0 of the partition table register.
const PARTITIONS: usize = PAGE_SIZE / 16;

/// What a CPU publishes about its guest, in its own cache line.
#[derive(Debug)]
#[repr(align(128))]
struct Inside {
    /// The tag of the VM inside, 0 outside.
    tag: AtomicU32,
    /// How often a guest has been entered.
    entries: AtomicU32,
}

/// The machine.
#[derive(Debug)]
pub struct Nested {
    domain: Domain,
    frames: Frames,
    inside: [Inside; MAX_CPUS],
    /// Interrupt server numbers by CPU.
    servers: Vec<u32>,
    /// One page, big-endian entries.
    partitions: &'static [[AtomicU64; 2]; PARTITIONS],
    timebase_hz: u64,
    tokens: RtasTokens,
    /// The console's interrupt source.
    console_irq: Option<u32>,
    /// Calendar time in seconds, less the timebase's at that moment.
    calendar: u64,
}

/// The platform has no nested HV, or not enough memory for its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NestedError {
    /// `H_SET_PARTITION_TABLE` failed with this status.
    NoNestedHv(i64),
    /// No frame for the partition table.
    NoMemory,
}

impl core::fmt::Display for NestedError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoNestedHv(status) => {
                write!(f, "the platform offers no nested HV (status {status}; on QEMU: -M pseries,cap-nested-hv=on)")
            }
            Self::NoMemory => f.write_str("the machine has too little memory"),
        }
    }
}

impl Nested {
    /// Takes the machine over. Called once, by the boot CPU, in real mode.
    pub fn new(found: &Inventory, frames: Frames) -> Result<Self, NestedError> {
        let domain = Domain::new();
        // The boot CPU, which joins for good later.
        let cpu = domain.cpu(CpuId(0)).ok_or(NestedError::NoMemory)?;
        let table = frames.alloc(&cpu, Order::PAGE).ok_or(NestedError::NoMemory)?;
        domain.leave(cpu);
        let base = table.into_pfn().0 << PAGE_SHIFT;
        // SAFETY: the frame was just allocated, is never given back, and all-zero words are valid cells.
        let partitions = unsafe {
            core::ptr::with_exposed_provenance_mut::<u8>(base as usize).write_bytes(0, PAGE_SIZE);
            &*core::ptr::with_exposed_provenance::<[[AtomicU64; 2]; PARTITIONS]>(base as usize)
        };
        // SAFETY: the table is a page of its own and stays.
        let (status, _) = unsafe { hcall(H_SET_PARTITION_TABLE, [base, 0, 0, 0]) };
        if status != H_SUCCESS {
            return Err(NestedError::NoNestedHv(status));
        }
        let seconds = rtas::time_of_day(&found.rtas).unwrap_or(0);
        Ok(Self {
            domain,
            frames,
            inside: [const { Inside { tag: AtomicU32::new(0), entries: AtomicU32::new(0) } }; MAX_CPUS],
            servers: found.cpus.clone(),
            partitions,
            timebase_hz: found.timebase_hz,
            tokens: found.rtas,
            console_irq: found.vty.and_then(|vty| vty.irq),
            calendar: seconds.saturating_sub(sprs::timebase() / found.timebase_hz),
        })
    }

    /// Tokens of the platform's firmware calls.
    pub fn tokens(&self) -> &RtasTokens {
        &self.tokens
    }

    /// The interrupt server number of a CPU.
    pub fn server(&self, cpu: CpuId) -> Option<u32> {
        self.servers.get(usize::from(cpu.0)).copied()
    }

    /// What the platform says of its processors' weaknesses, for the guests.
    pub fn characteristics(&self) -> Option<Characteristics> {
        // SAFETY: returns numbers.
        let (status, [character, behaviour, _]) = unsafe { hcall(H_GET_CPU_CHARACTERISTICS, [0; 4]) };
        (status == H_SUCCESS).then_some(Characteristics { character, behaviour })
    }

    /// Points a VM's partition-table entry at its second stage and process table (in register order), and has what was
    /// cached through the old entry dropped.
    pub fn set_partition(&self, tag: VmTag, root: u64, process_table: u64) {
        let Some(entry) = self.partitions.get(usize::from(tag.0.get())) else { return };
        entry[1].store(process_table.to_be(), Ordering::Relaxed);
        entry[0].store(root.to_be(), Ordering::Release);
        invalidate(tag);
    }

    /// Enters a guest and returns the platform's status: the interrupt vector that ended the run, or an error.
    #[inline]
    pub fn enter(&self, cpu: &Cpu, tag: VmTag, hv: &mut HvGuestState, registers: &mut Registers) -> i64 {
        let Some(inside) = self.inside.get(usize::from(cpu.id().0)) else { return -1 };
        // One writer: this CPU.
        inside.entries.store(inside.entries.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        inside.tag.store(tag.0.get().into(), Ordering::Relaxed);
        // Orders the publication before the platform's walk of the tables. Pairs with the fence in flush().
        fence(Ordering::SeqCst);
        let (hv, registers) = ((&raw mut *hv).expose_provenance(), (&raw mut *registers).expose_provenance());
        // SAFETY: both blocks are exclusively borrowed, in real memory, of the layout that the interface defines. What
        // the guest changes beside them is guest memory and the registers of `sprs`, which the caller accounts for.
        let (status, _) = unsafe { hcall(H_ENTER_NESTED, [hv as u64, registers as u64, 0, 0]) };
        // Orders the guest's accesses before what a flusher does once it sees us outside.
        inside.tag.store(0, Ordering::Release);
        status
    }

    #[inline]
    fn cell(table: TableRef, slot: usize) -> *const AtomicU64 {
        core::ptr::with_exposed_provenance::<AtomicU64>((table.base().0 as usize) << PAGE_SHIFT).wrapping_add(slot)
    }
}

/// Drops everything cached for a partition (RIC = 2, IS = 2).
fn invalidate(tag: VmTag) {
    // SAFETY: affects cached translations of the guest only.
    unsafe { hcall(H_TLB_INVALIDATE, [2 << 18 | 1 << 16, tag.0.get().into(), 2 << 10, 0]) };
}

impl Machine for Nested {
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
        // SAFETY: a TableRef names a table page in real memory, which is not given back while the guard lives (R2);
        // all accesses to it are through cells.
        unsafe { &*Self::cell(table, slot & (slots - 1)) }
    }

    fn alloc_table(&self, cpu: &Cpu, order: Order) -> Option<TableRef> {
        let table = self.alloc_table_to_fill(cpu, order)?;
        // SAFETY: the frames are ours alone until the table is published.
        unsafe { ram::clear(table.base(), order.bytes() as usize) };
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
        unsafe { ram::clear(first, order.bytes() as usize) };
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        let (Some(from), Some(to)) = (ram::within(from, 0, PAGE_SIZE), ram::within(to, 0, PAGE_SIZE)) else { return };
        // SAFETY: two different frames in real memory; the caller owns `to`, and nobody writes to `from`.
        unsafe { ram::copy(to, from, PAGE_SIZE) };
        ram::sync_instructions(to, PAGE_SIZE);
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
        ram::sync_instructions(start, from.len());
    }

    fn fill(&self, frame: Pfn, word: [u8; 8]) {
        // SAFETY: the caller owns the frame and no guest reaches it yet.
        unsafe { ram::fill(frame, u64::from_ne_bytes(word)) };
        if let Some(start) = ram::within(frame, 0, PAGE_SIZE) {
            ram::sync_instructions(start, PAGE_SIZE);
        }
    }

    fn flush(&self, batch: FlushBatch) -> Flushed {
        if batch.scope() != Scope::Nothing {
            // Orders the change of the tables before the look at who is inside. Pairs with the fence in enter().
            fence(Ordering::SeqCst);
            invalidate(batch.tag());
            let tag = u32::from(batch.tag().0.get());
            for (cpu, server) in self.inside.iter().zip(&self.servers) {
                let entries = cpu.entries.load(Ordering::Relaxed);
                if cpu.tag.load(Ordering::Acquire) != tag {
                    continue;
                }
                irq::kick(*server);
                while cpu.tag.load(Ordering::Acquire) == tag && cpu.entries.load(Ordering::Relaxed) == entries {
                    spin_loop();
                }
            }
        }
        batch.completed()
    }

    fn kick(&self, cpu: CpuId) {
        if let Some(server) = self.server(cpu) {
            irq::kick(server);
        }
    }

    fn interrupts(&self, cpu: &Cpu) -> Interrupts {
        let mut about = Interrupts::empty();
        let Some(server) = self.server(cpu.id()) else { return about };
        loop {
            match irq::take(server) {
                Taken::Nothing => return about,
                Taken::Kick => {}
                Taken::Device(source) if Some(source) == self.console_irq => about |= Interrupts::CONSOLE,
                Taken::Device(_) => {}
            }
        }
    }

    #[inline]
    fn now(&self) -> Instant {
        Instant(sprs::timebase())
    }

    fn ticks_per_second(&self) -> u64 {
        self.timebase_hz
    }

    fn wall_clock(&self) -> u64 {
        self.calendar.saturating_add(sprs::timebase() / self.timebase_hz)
    }

    fn random(&self) -> Option<u64> {
        // SAFETY: returns a number.
        let (status, [number, ..]) = unsafe { hcall(H_RANDOM, [0; 4]) };
        (status == H_SUCCESS).then_some(number)
    }

    fn idle(&self, _: &Cpu, until: Instant) {
        let ticks = until.0.saturating_sub(sprs::timebase());
        sprs::set_decrementer(i32::try_from(ticks).unwrap_or(i32::MAX));
        // SAFETY: the vectors taken inside return at once with interrupts off (boot::vectors).
        unsafe { hcall(H_CEDE, [0; 4]) };
    }
}
