//! What an invalidation of one VM's memory must reach: the truth, its windows, what is derived from them, and the name
//! that translation caches know the VM by.
//!
//! [`super::GuestMemory`] is a handle on it. Whoever else can take a page away, an object shared between VMs, holds
//! another; the Space is taken apart when the last but the VM's own is gone (R20).

use core::fmt;

use super::cache::Caches;
use super::dirty::DirtyLog;
use super::lock::{Mmu, Target};
use super::map;
use crate::addr::{Gfn, Hvn, HvnRange, Order};
use crate::epoch::{Cpu, WalkGuard};
use crate::host::{HostSpace, Region, Regions};
use crate::isa::{DirtyMethod, Isa, MapError, Stage2, VmTag};
use crate::machine::Machine;
use crate::memslot::{Memslots, Slot};
use crate::mmu::flush::FlushBatch;
use crate::radix::format::Prot;
use crate::sync::AtomicU64;

/// Host space, memslots, mmu lock with the notifier, and stage 2 of one VM.
pub struct Space<I: Isa> {
    /// The VM's name in translation caches.
    pub tag: VmTag,
    /// The truth about its memory.
    pub host: HostSpace<I>,
    /// The windows onto it.
    pub slots: Memslots,
    /// Who may publish and who invalidates.
    pub mmu: Mmu,
    /// Which pages were stored to.
    pub dirty: DirtyLog,
    /// Pages whose frames the hypervisor keeps in mind.
    pub caches: Caches,
    /// What is derived.
    pub stage2: I::Stage2,
    /// How tables make way for a large leaf. By reference, because it is rare and large: it is compiled with whoever makes
    /// the space, not with the faults that may want it.
    pub(super) replace: Replace<I>,
    /// Flushes that made CPUs forget something. Written by invalidators only.
    pub flushes: AtomicU64,
}

/// See [`map::replace`].
pub(super) type Replace<I> = fn(&Cpu, &Space<I>, &Target<'_, I>, Gfn, Order) -> Result<Order, MapError>;

/// Why a VM got no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// The RAM size is 0, no multiple of the page size, or beyond the address space.
    BadSize,
    /// There is no memory of that granule on this machine, or not of this backing; or RAM or a window does not consist of
    /// whole runs of it, aligned in guest and host space.
    Granule,
    /// No frames for the tables' roots, or no heap.
    NoMemory,
}

impl<I: Isa> Space<I> {
    /// An empty space of these regions, seen through `windows`.
    pub fn new(
        cpu: &Cpu,
        m: &I::Machine,
        tag: VmTag,
        regions: Regions<I>,
        windows: &[Slot],
    ) -> Result<Self, MemoryError> {
        let slots = Memslots::new();
        slots.lock(cpu).replace(m.epoch(), windows).map_err(|_| MemoryError::BadSize)?;
        let dirty = DirtyLog::new(regions.iter().map(Region::hvns));
        let host = HostSpace::new(cpu, m, regions).ok_or(MemoryError::NoMemory)?;
        let Some(stage2) = I::Stage2::create(cpu, m, tag) else {
            host.destroy(cpu, m);
            return Err(MemoryError::NoMemory);
        };
        Ok(Self {
            tag,
            host,
            slots,
            mmu: Mmu::new(),
            dirty,
            caches: Caches::new(),
            stage2,
            replace: map::replace::<I>,
            flushes: AtomicU64::new(0),
        })
    }

    /// Where a fault's answer goes.
    #[inline]
    pub fn target<'a>(&'a self, m: &'a I::Machine, claim: I::Claim, need: Prot) -> Target<'a, I> {
        Target { stage2: &self.stage2, machine: m, dirty: &self.dirty, claim, need }
    }

    /// Notes that the hypervisor has stored to a page, in the guard in which it did (R16).
    #[inline]
    pub(super) fn wrote(&self, m: &I::Machine, g: &WalkGuard<'_>, page: Hvn) {
        if let Some(log) = self.dirty.active()
            && let Some(page) = HvnRange::new(page, 1)
        {
            log.mark(m, g, &page);
        }
    }

    /// The dirty log, if it is on and wants to know of leaves that hardware marked.
    pub(super) fn change_log(&self) -> Option<&DirtyLog> {
        self.dirty.active().filter(|_| self.stage2.dirty_method() == DirtyMethod::HardwareBits)
    }

    /// Frees everything. No CPU is in the VM nor enters it again.
    pub fn destroy(self, cpu: &Cpu, m: &I::Machine) {
        // The tag may be given to another VM, and the frames to anybody: nothing of this VM may stay cached (R9).
        m.flush(FlushBatch::whole(self.tag)).release(cpu, m);
        self.stage2.destroy(cpu, m);
        self.dirty.close(cpu, m);
        self.host.destroy(cpu, m);
    }
}

impl<I: Isa> fmt::Debug for Space<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("tag", &self.tag).finish_non_exhaustive()
    }
}
