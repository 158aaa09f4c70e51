//! A machine for the benchmark: one to one memory, no translation caches, one CPU.
//!
//! What a table entry costs here is what it costs on a board: its address is computed, and that is all.

#![expect(unsafe_code, reason = "tables and frames are raw memory, lent as cells")]

use core::ptr;

use hv_core::addr::{Order, PAGE_SHIFT, PAGE_SIZE, Pfn};
use hv_core::epoch::{Cpu, Domain, Retired, WalkGuard};
use hv_core::machine::{CpuId, Instant, Interrupts, Machine};
use hv_core::mmu::flush::{FlushBatch, Flushed};
use hv_core::page::Frames;
use hv_core::radix::format::TableRef;
use hv_core::sync::AtomicU64;

use crate::arena::Arena;

/// The machine.
#[derive(Debug)]
pub struct BenchMachine {
    domain: Domain,
    frames: Frames,
    ram: Arena,
}

impl BenchMachine {
    /// A machine with `bytes` of RAM.
    pub fn new(bytes: usize) -> Self {
        let ram = Arena::new(bytes);
        let ranges = [ram.frames()];
        let metadata = vec![0; Frames::metadata_words(&ranges)].leak();
        Self {
            domain: Domain::new(),
            frames: Frames::new(&ranges, metadata).expect("one range with its metadata"),
            ram,
        }
    }

    /// Its memory: tables and frames.
    #[must_use]
    pub fn ram(&self) -> Arena {
        self.ram
    }

    /// The address of a frame that this machine's allocator gave out.
    fn at(pfn: Pfn) -> *mut u8 {
        ptr::with_exposed_provenance_mut((pfn.0 << PAGE_SHIFT) as usize)
    }
}

impl Machine for BenchMachine {
    fn epoch(&self) -> &Domain {
        &self.domain
    }

    fn frames(&self) -> &Frames {
        &self.frames
    }

    #[inline]
    fn pte<'g>(&'g self, _: &'g WalkGuard<'_>, table: TableRef, slot: usize) -> &'g AtomicU64 {
        let slots = table.order().bytes() as usize / 8;
        // SAFETY: a TableRef names a table of this machine, which is not given back while the guard lives (R2), and the
        // slot is confined to it, whose size is a power of two; all accesses to tables are through cells.
        unsafe { &*Self::at(table.base()).cast::<AtomicU64>().add(slot & (slots - 1)) }
    }

    fn alloc_table(&self, cpu: &Cpu, order: Order) -> Option<TableRef> {
        let table = self.alloc_table_to_fill(cpu, order)?;
        self.zero(table.base(), order);
        Some(table)
    }

    fn alloc_table_to_fill(&self, cpu: &Cpu, order: Order) -> Option<TableRef> {
        self.frames.alloc_table(cpu, order)
    }

    fn free_table(&self, cpu: &Cpu, t: Retired<TableRef>) {
        self.frames.free_table(cpu, t);
    }

    fn zero(&self, first: Pfn, order: Order) {
        // SAFETY: the caller owns these frames alone.
        unsafe { ptr::write_bytes(Self::at(first), 0, order.bytes() as usize) };
    }

    fn copy(&self, from: Pfn, to: Pfn) {
        // SAFETY: the caller owns `to` alone, nobody writes to `from`, and two frames do not overlap.
        unsafe { ptr::copy_nonoverlapping(Self::at(from), Self::at(to), PAGE_SIZE) };
    }

    fn read(&self, frame: Pfn, offset: usize, into: &mut [u8]) {
        assert!(offset + into.len() <= PAGE_SIZE, "a read leaves its frame");
        // SAFETY: inside one frame of this machine; the benchmark has no guest that writes meanwhile.
        unsafe { ptr::copy_nonoverlapping(Self::at(frame).add(offset), into.as_mut_ptr(), into.len()) };
    }

    fn write(&self, frame: Pfn, offset: usize, from: &[u8]) {
        assert!(offset + from.len() <= PAGE_SIZE, "a write leaves its frame");
        // SAFETY: as in read().
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), Self::at(frame).add(offset), from.len()) };
    }

    fn flush(&self, batch: FlushBatch) -> Flushed {
        // Nothing is ever cached: no guest runs.
        batch.completed()
    }

    fn kick(&self, _cpu: CpuId) {}

    fn interrupts(&self, _cpu: &Cpu) -> Interrupts {
        Interrupts::empty()
    }

    fn now(&self) -> Instant {
        Instant(0)
    }

    fn ticks_per_second(&self) -> u64 {
        1_000_000_000
    }

    fn wall_clock(&self) -> u64 {
        0
    }

    fn random(&self) -> Option<u64> {
        None
    }

    fn idle(&self, _cpu: &Cpu, _until: Instant) {}
}
