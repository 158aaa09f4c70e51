//! The partition table: where hardware, or the hypervisor below, finds each VM's second stage (Power ISA v3.0B, Book III,
//! partition table).
#![expect(unsafe_code, reason = "the table is a page that hardware reads")]

use hv_core::addr::{Order, PAGE_SHIFT, PAGE_SIZE};
use hv_core::epoch::Cpu;
use hv_core::isa::VmTag;
use hv_core::page::Frames;
use hv_core::sync::{AtomicU64, Ordering};

/// Partitions in the table: one page of 16-byte entries, the size code 0 of the partition table register.
const PARTITIONS: usize = PAGE_SIZE / 16;

/// The table, big-endian in memory.
#[derive(Debug)]
pub struct Partitions(&'static [[AtomicU64; 2]; PARTITIONS]);

impl Partitions {
    /// An empty one, which stays for good; `None` if there is no frame for it.
    pub fn new(frames: &Frames, cpu: &Cpu) -> Option<Self> {
        let base = frames.alloc(cpu, Order::PAGE)?.into_pfn().0 << PAGE_SHIFT;
        // SAFETY: the frame was just allocated, is never given back, and all-zero words are valid cells.
        Some(Self(unsafe {
            core::ptr::with_exposed_provenance_mut::<u8>(base as usize).write_bytes(0, PAGE_SIZE);
            &*core::ptr::with_exposed_provenance::<[[AtomicU64; 2]; PARTITIONS]>(base as usize)
        }))
    }

    /// What the partition table register is set to.
    #[must_use]
    pub fn register(&self) -> u64 {
        (&raw const *self.0).addr() as u64
    }

    /// Sets a VM's entry, given in register order. What was cached through the old one is the caller's to drop.
    pub fn set(&self, tag: VmTag, entry: [u64; 2]) {
        self.store(tag.0.get().into(), entry);
    }

    /// Sets the hypervisor's own entry, as [`Partitions::set`].
    pub fn set_own(&self, entry: [u64; 2]) {
        self.store(0, entry);
    }

    /// The first doubleword of a VM's entry, in register order, for processors that do not look here themselves.
    #[must_use]
    pub fn first(&self, tag: VmTag) -> u64 {
        self.0.get(usize::from(tag.0.get())).map_or(0, |[first, _]| u64::from_be(first.load(Ordering::Acquire)))
    }

    fn store(&self, partition: usize, entry: [u64; 2]) {
        let Some(cells) = self.0.get(partition) else { return };
        cells[1].store(entry[1].to_be(), Ordering::Relaxed);
        cells[0].store(entry[0].to_be(), Ordering::Release);
    }
}
