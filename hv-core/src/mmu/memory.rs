//! One VM's memory as the rest of the hypervisor sees it.

use core::ops::Range;

use super::lock::{Mmu, Target};
use super::map::map;
use super::resolve::{Unresolved, resolve};
use super::zap::{Derived, invalidate};
use crate::addr::{Gfn, GfnRange, Gpa, Hvn, PAGE_SHIFT, PAGE_SIZE};
use crate::epoch::Cpu;
use crate::host::{HostSpace, Peek, Populate};
use crate::isa::{Isa, MapError, Stage2, VmTag};
use crate::machine::Machine;
use crate::memslot::{Memslots, Slot};
use crate::mmu::flush::FlushBatch;
use crate::radix::format::Prot;
use crate::sync::{AtomicU64, Ordering, spin_loop};
use crate::vcpu::exit::Fault;
use crate::vcpu::services::MemError;

/// Where guest RAM begins in the host space: not at 0, so that a gfn taken for a host page shows.
const RAM_BASE: Hvn = if cfg!(any(loom, shuttle)) { Hvn(0) } else { Hvn(1 << 32) };

/// Host space, memslots, notifier, mmu lock and stage 2 of one VM.
#[derive(Debug)]
pub struct GuestMemory<I: Isa> {
    tag: VmTag,
    host: HostSpace,
    slots: Memslots,
    mmu: Mmu,
    stage2: I::Stage2,
    faults: AtomicU64,
    retries: AtomicU64,
}

/// Why a VM got no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// The RAM size is 0, no multiple of the page size, or beyond the address space.
    BadSize,
    /// No frames for the tables' roots.
    NoMemory,
}

/// How a fault ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The translation is there.
    Mapped,
    /// Something changed meanwhile: enter the guest again, it will fault again if it must.
    Retry,
    /// Nothing lies there for this access.
    NoSlot,
    /// The machine has no frame left.
    NoMemory,
}

/// What a VM's memory amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Frames that hold guest memory.
    pub resident: u64,
    /// Frames that hold the host table and stage 2.
    pub tables: u64,
    /// Faults so far.
    pub faults: u64,
    /// Those of them that ended in [`Outcome::Retry`].
    pub retries: u64,
}

impl<I: Isa> GuestMemory<I> {
    /// Memory of `ram_bytes` from guest physical address 0, none of it populated.
    pub fn new(cpu: &Cpu, m: &I::Machine, tag: VmTag, ram_bytes: u64) -> Result<Self, MemoryError> {
        let pages = ram_bytes >> PAGE_SHIFT;
        if pages << PAGE_SHIFT != ram_bytes {
            return Err(MemoryError::BadSize);
        }
        let gfns = GfnRange::new(Gfn(0), pages).ok_or(MemoryError::BadSize)?;
        let slot = Slot::new(gfns, RAM_BASE, Prot::all()).map_err(|_| MemoryError::BadSize)?;
        let slots = Memslots::new();
        slots.replace(cpu, m.epoch(), &[slot]).map_err(|_| MemoryError::BadSize)?;
        let host = HostSpace::new(cpu, m).ok_or(MemoryError::NoMemory)?;
        let Some(stage2) = I::Stage2::create(cpu, m, tag) else {
            host.destroy(cpu, m);
            return Err(MemoryError::NoMemory);
        };
        Ok(Self { tag, host, slots, mmu: Mmu::new(), stage2, faults: AtomicU64::new(0), retries: AtomicU64::new(0) })
    }

    /// Answers a second-stage fault. The caller holds no lock and no guard.
    pub fn fault(&self, cpu: &Cpu, m: &I::Machine, fault: &Fault<I::Claim>) -> Outcome {
        self.faults.fetch_add(1, Ordering::Relaxed);
        let gfn = fault.gpa.page();
        let done = match resolve(cpu, m, (&self.mmu, &self.slots, &self.host), gfn, fault.access) {
            Err(Unresolved::NoSlot) => Outcome::NoSlot,
            Err(Unresolved::NoMemory) => Outcome::NoMemory,
            Err(Unresolved::Retry) => Outcome::Retry,
            Ok(resolved) => {
                let to = Target { stage2: &self.stage2, cpu, machine: m, claim: fault.claim };
                match map::<I>(&self.mmu, to, gfn, resolved) {
                    Ok(()) => Outcome::Mapped,
                    Err(MapError::Retry) => Outcome::Retry,
                    Err(MapError::NoTable) => Outcome::NoMemory,
                }
            }
        };
        if done == Outcome::Retry {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
        done
    }

    /// Reads guest memory; pages that nobody has touched read as zeros and stay untouched. The guest may be writing it:
    /// each byte is read once (R26). The caller holds no guard.
    pub fn read(&self, cpu: &Cpu, m: &I::Machine, at: Gpa, into: &mut [u8]) -> Result<(), MemError> {
        self.each_piece(cpu, m, at, into.len(), Prot::READ, |page, offset, part| {
            let bytes = into.get_mut(part).ok_or(MemError::BadAddress)?;
            loop {
                let guard = m.epoch().enter(cpu);
                match self.host.peek(m, &guard, page) {
                    Peek::Page(found) => m.read(found.pfn, offset, bytes),
                    Peek::Absent => bytes.fill(0),
                    Peek::OutOfReach => return Err(MemError::BadAddress),
                    Peek::Retry => {
                        drop(guard);
                        spin_loop();
                        continue;
                    }
                }
                return Ok(());
            }
        })
    }

    /// Writes guest memory, populating it. The whole range is checked and populated before the first byte is stored, so
    /// on an error nothing has been. The caller holds no guard.
    pub fn write(&self, cpu: &Cpu, m: &I::Machine, at: Gpa, from: &[u8]) -> Result<(), MemError> {
        let len = from.len();
        self.each_piece(cpu, m, at, len, Prot::WRITE, |_, _, _| Ok(()))?;
        self.each_piece(cpu, m, at, len, Prot::WRITE, |page, _, _| self.touch(cpu, m, page))?;
        self.each_piece(cpu, m, at, len, Prot::WRITE, |page, offset, part| {
            let bytes = from.get(part).ok_or(MemError::BadAddress)?;
            loop {
                let guard = m.epoch().enter(cpu);
                if let Peek::Page(found) = self.host.peek(m, &guard, page) {
                    m.write(found.pfn, offset, bytes);
                    return Ok(());
                }
                drop(guard);
                // Taken away since the check: bring it back.
                self.touch(cpu, m, page)?;
            }
        })
    }

    /// Gives the guest's pages `gfns` back to the machine; they read as zeros afterwards. What of the range no slot shows
    /// is ignored. Once this has returned, no access begun before it lands in the old frames.
    pub fn discard(&self, cpu: &Cpu, m: &I::Machine, gfns: GfnRange) {
        let slots = self.slots.all(&m.epoch().enter(cpu));
        for range in slots.iter().filter_map(|slot| slot.hvns_of(&gfns)) {
            let _structure = self.host.lock(cpu);
            let derived = Derived { mmu: &self.mmu, slots: &self.slots, stage2: &self.stage2, tag: self.tag };
            invalidate::<I, _>(cpu, m, &derived, range, |bracket| {
                let mut from = range.start();
                while from < range.end() {
                    let (taken, next) = self.host.punch(cpu, m, bracket, from);
                    self.host.release(cpu, m, taken);
                    from = next;
                }
                while self.host.release(cpu, m, self.host.prune(cpu, m, bracket)) {}
            });
        }
    }

    /// Stage 2, for entering the guest on it.
    pub fn stage2(&self) -> &I::Stage2 {
        &self.stage2
    }

    /// The VM's name in translation caches.
    pub fn tag(&self) -> VmTag {
        self.tag
    }

    /// What it amounts to just now.
    pub fn stats(&self) -> MemoryStats {
        MemoryStats {
            resident: self.host.resident(),
            tables: self.host.table_frames().saturating_add(self.stage2.table_frames()),
            faults: self.faults.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
        }
    }

    /// Frees everything. No CPU is in the VM nor enters it again.
    pub fn destroy(self, cpu: &Cpu, m: &I::Machine) {
        // The tag may be given to another VM, and the frames to anybody: nothing of this VM may stay cached (R9).
        m.flush(FlushBatch::whole(self.tag)).release(cpu, m);
        self.stage2.destroy(cpu, m);
        self.host.destroy(cpu, m);
    }

    /// Populates a page.
    fn touch(&self, cpu: &Cpu, m: &I::Machine, page: Hvn) -> Result<(), MemError> {
        loop {
            match self.host.populate(cpu, m, page) {
                Populate::Present(_) | Populate::Fresh(_) => return Ok(()),
                Populate::NoMemory => return Err(MemError::NoMemory),
                Populate::OutOfReach => return Err(MemError::BadAddress),
                Populate::Retry => spin_loop(),
            }
        }
    }

    /// Cuts `len` bytes from `at` at page boundaries, and calls `f` with each piece's host page, its offset there and
    /// the bytes' place in the caller's buffer.
    fn each_piece(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        at: Gpa,
        len: usize,
        need: Prot,
        mut f: impl FnMut(Hvn, usize, Range<usize>) -> Result<(), MemError>,
    ) -> Result<(), MemError> {
        let mut done = 0_usize;
        while done < len {
            let gpa = at.checked_add(done as u64).ok_or(MemError::BadAddress)?;
            let offset = gpa.offset();
            let end = done.saturating_add(PAGE_SIZE.saturating_sub(offset)).min(len);
            let slot = self.slots.find(&m.epoch().enter(cpu), gpa.page());
            let slot = slot.filter(|s| s.prot().contains(need)).ok_or(MemError::BadAddress)?;
            f(slot.hvn(gpa.page()).ok_or(MemError::BadAddress)?, offset, done..end)?;
            done = end;
        }
        Ok(())
    }
}
