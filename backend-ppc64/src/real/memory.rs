//! The half of hv-core's machine that is memory: frames and table cells are plain memory at their real addresses.
#![expect(unsafe_code, reason = "lends table cells in real memory")]

use hv_core::addr::{Order, PAGE_SHIFT, PAGE_SIZE, Pfn};
use hv_core::epoch::{Cpu, Domain, Retired};
use hv_core::page::Frames;
use hv_core::radix::format::TableRef;
use hv_core::sync::AtomicU64;

use super::ram;

/// Memory, for the machine that [`real_memory`] makes it part of.
#[derive(Debug)]
pub struct Memory {
    /// The epoch domain of the machine's CPUs.
    pub domain: Domain,
    /// The allocator.
    pub frames: Frames,
}

impl Memory {
    /// See [`hv_core::machine::Machine::pte`].
    ///
    /// # Safety
    /// The caller holds a guard for as long as it uses the cell.
    #[inline]
    pub unsafe fn cell(&self, table: TableRef, slot: usize) -> &AtomicU64 {
        let slots = table.order().bytes() as usize / 8;
        // A slot beyond the table would be a bug in the walker; it is confined to the table, whose size is a power of two.
        let at = (table.base().0 as usize) << PAGE_SHIFT;
        let cell = core::ptr::with_exposed_provenance::<AtomicU64>(at).wrapping_add(slot & (slots - 1));
        // SAFETY: a TableRef names a table page in real memory, which is not given back while the guard lives (R2);
        // all accesses to it are through cells.
        unsafe { &*cell }
    }

    /// See [`hv_core::machine::Machine::alloc_table`].
    pub fn alloc_table(&self, cpu: &Cpu, order: Order) -> Option<TableRef> {
        let table = self.frames.alloc_table(cpu, order)?;
        // SAFETY: the frames are ours alone until the table is published.
        unsafe { ram::clear(table.base(), order.bytes() as usize) };
        Some(table)
    }

    /// See [`hv_core::machine::Machine::free_table`].
    pub fn free_table(&self, cpu: &Cpu, t: Retired<TableRef>) {
        self.frames.free_table(cpu, t);
    }

    /// See [`hv_core::machine::Machine::zero`].
    #[inline]
    pub fn zero(&self, first: Pfn, order: Order) {
        // SAFETY: the caller owns the frames and no guest reaches them yet.
        unsafe { ram::clear(first, order.bytes() as usize) };
    }

    /// See [`hv_core::machine::Machine::copy`].
    pub fn copy(&self, from: Pfn, to: Pfn) {
        let (Some(from), Some(to)) = (ram::within(from, 0, PAGE_SIZE), ram::within(to, 0, PAGE_SIZE)) else { return };
        // SAFETY: two different frames in real memory; the caller owns `to`, and nobody writes to `from`.
        unsafe { ram::copy(to, from, PAGE_SIZE) };
        ram::sync_instructions(to, PAGE_SIZE);
    }

    /// See [`hv_core::machine::Machine::read`].
    pub fn read(&self, frame: Pfn, offset: usize, into: &mut [u8]) {
        let Some(start) = ram::within(frame, offset, into.len()) else { return into.fill(0) };
        // SAFETY: the range lies in one frame of guest memory, which is not freed during the call (the caller holds a
        // guard). The guest may write it meanwhile; the copy is opaque to the compiler, so it is a plain read by the
        // machine, with torn values possible as documented.
        unsafe { ram::copy(into.as_mut_ptr(), start, into.len()) };
    }

    /// See [`hv_core::machine::Machine::write`].
    pub fn write(&self, frame: Pfn, offset: usize, from: &[u8]) {
        let Some(start) = ram::within(frame, offset, from.len()) else { return };
        // SAFETY: as in `read`.
        unsafe { ram::copy(start, from.as_ptr(), from.len()) };
        ram::sync_instructions(start, from.len());
    }

    /// See [`hv_core::machine::Machine::fill`].
    pub fn fill(&self, frame: Pfn, word: [u8; 8]) {
        // SAFETY: the caller owns the frame and no guest reaches it yet.
        unsafe { ram::fill(frame, u64::from_ne_bytes(word)) };
        if let Some(start) = ram::within(frame, 0, PAGE_SIZE) {
            ram::sync_instructions(start, PAGE_SIZE);
        }
    }
}

/// Inside an implementation of [`hv_core::machine::Machine`] for a type with the field `memory`, a [`Memory`]: what that
/// answers by itself.
macro_rules! real_memory {
    () => {
        #[inline]
        fn epoch(&self) -> &hv_core::epoch::Domain {
            &self.memory.domain
        }

        #[inline]
        fn frames(&self) -> &hv_core::page::Frames {
            &self.memory.frames
        }

        #[inline]
        fn pte<'g>(
            &'g self,
            _: &'g hv_core::epoch::WalkGuard<'_>,
            table: hv_core::radix::format::TableRef,
            slot: usize,
        ) -> &'g hv_core::sync::AtomicU64 {
            // SAFETY: the guard is borrowed for as long as the cell is.
            unsafe { self.memory.cell(table, slot) }
        }

        fn alloc_table(
            &self,
            cpu: &hv_core::epoch::Cpu,
            order: hv_core::addr::Order,
        ) -> Option<hv_core::radix::format::TableRef> {
            self.memory.alloc_table(cpu, order)
        }

        fn alloc_table_to_fill(
            &self,
            cpu: &hv_core::epoch::Cpu,
            order: hv_core::addr::Order,
        ) -> Option<hv_core::radix::format::TableRef> {
            self.memory.frames.alloc_table(cpu, order)
        }

        fn free_table(&self, cpu: &hv_core::epoch::Cpu, t: hv_core::epoch::Retired<hv_core::radix::format::TableRef>) {
            self.memory.free_table(cpu, t);
        }

        #[inline]
        fn zero(&self, first: hv_core::addr::Pfn, order: hv_core::addr::Order) {
            self.memory.zero(first, order);
        }

        fn copy(&self, from: hv_core::addr::Pfn, to: hv_core::addr::Pfn) {
            self.memory.copy(from, to);
        }

        fn read(&self, frame: hv_core::addr::Pfn, offset: usize, into: &mut [u8]) {
            self.memory.read(frame, offset, into);
        }

        fn write(&self, frame: hv_core::addr::Pfn, offset: usize, from: &[u8]) {
            self.memory.write(frame, offset, from);
        }

        fn fill(&self, frame: hv_core::addr::Pfn, word: [u8; 8]) {
            self.memory.fill(frame, word);
        }
    };
}
pub(crate) use real_memory;
