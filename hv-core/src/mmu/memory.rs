//! One VM's memory as the rest of the hypervisor sees it.

use core::ops::Range;

use super::census::Census;
use super::config::MemoryConfig;
use super::fast::{Fast, fast};
use super::map::map;
use super::resolve::{Unresolved, resolve};
use super::space::{MemoryError, Space};
use crate::addr::{GfnRange, Gpa, Hvn, PAGE_SIZE};
use crate::context::Atomic;
use crate::epoch::Cpu;
use crate::heap::Counted;
use crate::host::{HostStats, Peek, Populate, Reclaimed, ScanCursor, Scanned, Survey, discard, reclaim, scan};
use crate::isa::{Isa, MapError, Stage2, VmTag};
use crate::machine::Machine;
use crate::page::{MapRefused, RESERVE};
use crate::radix::format::Prot;
use crate::sync::{AtomicU64, Ordering, spin_loop};
use crate::vcpu::exit::Fault;
use crate::vcpu::services::MemError;

/// The VM's own handle on its [`Space`], with the fault path and the accesses that the hypervisor makes for the guest.
#[derive(Debug)]
pub struct GuestMemory<I: Isa> {
    space: Counted<Space<I>>,
    /// Faults that ended in [`Outcome::Retry`]. Written by every CPU, but rarely.
    retries: AtomicU64,
}

/// How a fault ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The translation is there.
    Mapped,
    /// Something changed meanwhile: enter the guest again, it will fault again if it must.
    Retry,
    /// Nothing lies there for this access, or nothing of the size that the guest chose.
    NoSlot,
    /// The machine has no frame left.
    NoMemory,
}

/// What a VM's memory amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Pages of guest memory that are there.
    pub resident: u64,
    /// Host leaves of 2 MiB.
    pub huge: u64,
    /// Host leaves of 1 GiB.
    pub giant: u64,
    /// Host leaves that were split.
    pub splits: u64,
    /// Host tables that gave way to a leaf.
    pub collapses: u64,
    /// Pages that were zeroed in place instead of freed, for want of a table to split their leaf with.
    pub zeroed: u64,
    /// Pages that the store keeps.
    pub swapped: u64,
    /// How often a page was brought back from there.
    pub swapped_in: u64,
    /// How often a page was given to it, or to nobody because it was zeros.
    pub swapped_out: u64,
    /// Blocks in which reclaim looked for pages that are not used.
    pub aged: u64,
    /// Pages that it found to be used.
    pub used: u64,
    /// Frames that hold the host table, stage 2 and the dirty log.
    pub tables: u64,
    /// Flushes that made CPUs forget translations.
    pub flushes: u64,
    /// Faults that ended in [`Outcome::Retry`]. The faults themselves are counted by the vCPUs.
    pub retries: u64,
    /// Harvests of the dirty log.
    pub harvests: u64,
    /// Pages that they reported.
    pub harvested: u64,
}

impl<I: Isa> GuestMemory<I> {
    /// Memory for a VM, none of it populated. A number of bytes is a configuration too: that much anonymous RAM from
    /// guest physical address 0.
    pub fn new(cpu: &Cpu, m: &I::Machine, tag: VmTag, config: impl Into<MemoryConfig<I>>) -> Result<Self, MemoryError> {
        let config = config.into();
        if config.store.is_some() {
            // Without it nobody could give the store a page when there is no frame left.
            m.frames().keep_reserve(cpu, RESERVE);
        }
        let (regions, slots) = config.lay_out()?;
        // Room first: what is made is put there at once, and need not be taken apart for want of it.
        let room = Counted::room().ok_or(MemoryError::NoMemory)?;
        let space = room.put(Space::new(cpu, m, tag, regions, &slots)?);
        let memory = Self { space, retries: AtomicU64::new(0) };
        let refused = {
            let mut shared = memory.space.host.regions().shared();
            shared.find_map(|(object, hvns, first)| object.register(cpu, &memory.space, hvns, first).err())
        };
        let Some(why) = refused else { return Ok(memory) };
        memory.destroy(cpu, m);
        Err(match why {
            MapRefused::TooSmall => MemoryError::BadSize,
            MapRefused::NoMemory => MemoryError::NoMemory,
        })
    }

    /// Answers a second-stage fault. The caller holds no lock and no guard.
    pub fn fault(&self, cpu: &Cpu, m: &I::Machine, fault: &Fault<I::Claim>) -> Outcome {
        if fast(Atomic::on(cpu), m, &self.space, fault) == Fast::Done {
            return Outcome::Mapped;
        }
        let gfn = fault.gpa.page();
        let done = match resolve(cpu, m, &self.space, gfn, fault.access) {
            Err(Unresolved::NoSlot) => Outcome::NoSlot,
            Err(Unresolved::NoMemory) => Outcome::NoMemory,
            Err(Unresolved::Retry) => Outcome::Retry,
            Ok(resolved) => match map(cpu, m, &self.space, fault.claim, resolved) {
                Ok(()) => Outcome::Mapped,
                // Another CPU has put another table there already.
                Err(MapError::Retry | MapError::TableInWay(_) | MapError::LeafInWay(_)) => Outcome::Retry,
                Err(MapError::NoTable) => Outcome::NoMemory,
                Err(MapError::Unfit(_)) => Outcome::NoSlot,
            },
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
                match self.space.host.peek(m, &guard, page) {
                    Peek::Page(found) => m.read(found.pfn, offset, bytes),
                    Peek::Absent => {
                        drop(guard);
                        if self.space.host.is_zero(cpu, m, page) {
                            bytes.fill(0);
                            return Ok(());
                        }
                        self.touch(cpu, m, page)?;
                        continue;
                    }
                    Peek::Swapped => {
                        drop(guard);
                        self.touch(cpu, m, page)?;
                        continue;
                    }
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
                if let Peek::Page(found) = self.space.host.peek(m, &guard, page) {
                    m.write(found.pfn, offset, bytes);
                    self.space.wrote(m, &guard, page);
                    return Ok(());
                }
                drop(guard);
                // Taken away since the check: bring it back.
                self.touch(cpu, m, page)?;
            }
        })
    }

    /// Gives the guest's pages `gfns` back to the machine; they read as zeros afterwards. What of the range no slot shows
    /// is ignored. Once this has returned, no access begun before it lands in the old frames. To the dirty log it is a store
    /// to each of them.
    pub fn discard(&self, cpu: &Cpu, m: &I::Machine, gfns: GfnRange) {
        let slots = self.space.slots.all(&m.epoch().enter(cpu));
        for range in slots.iter().filter_map(|slot| slot.hvns_of(&gfns)) {
            discard(cpu, m, &self.space, range);
            self.space.dirty.discarded(cpu, m, range);
        }
    }

    /// Says that the guest's pages `gfns` are worth mapping in large blocks; see [`crate::host::HugePolicy::Advise`].
    pub fn advise(&self, cpu: &Cpu, m: &I::Machine, gfns: GfnRange) {
        let slots = self.space.slots.all(&m.epoch().enter(cpu));
        for range in slots.iter().filter_map(|slot| slot.hvns_of(&gfns)) {
            self.space.host.regions().iter().for_each(|region| region.advise(&range));
        }
    }

    /// What lies behind the handle: for whoever shares memory with the VM, and for inspection.
    pub fn space(&self) -> &Counted<Space<I>> {
        &self.space
    }

    /// Gives pages that are not used to the store, its own and then those of its objects, until `want` frames have been freed or none is left that it would take;
    /// see [`crate::host::Reclaimed`]. Takes its turn among all reclaimers of the machine. The caller holds no guard and no
    /// ranked lock.
    pub fn reclaim(&self, cpu: &Cpu, m: &I::Machine, want: u64) -> Reclaimed {
        let _turn = m.frames().reclaiming(cpu);
        let mut done = reclaim(cpu, m, &self.space, want);
        for (object, ..) in self.space.host.regions().shared() {
            if done.freed >= want {
                break;
            }
            done.add(&object.sweep(cpu, m, want.saturating_sub(done.freed)));
        }
        done
    }

    /// One step of the search for blocks to collapse; see [`crate::host::Scanned`]. For a CPU between turns, which holds no
    /// lock and no guard.
    pub fn scan(&self, cpu: &Cpu, m: &I::Machine, cursor: &mut ScanCursor) -> Scanned {
        scan(cpu, m, &self.space, cursor)
    }

    /// Stage 2, for entering the guest on it.
    pub fn stage2(&self) -> &I::Stage2 {
        &self.space.stage2
    }

    /// The VM's name in translation caches.
    pub fn tag(&self) -> VmTag {
        self.space.tag
    }

    /// What it amounts to just now.
    pub fn stats(&self) -> MemoryStats {
        let Space { host, stage2, dirty, .. } = &*self.space;
        let (harvests, harvested) = dirty.counts();
        let now = host.stats();
        let HostStats { resident, huge, giant, splits, collapses, zeroed, .. } = now;
        MemoryStats {
            swapped: now.swapped,
            swapped_in: now.swapped_in,
            swapped_out: now.swapped_out,
            aged: now.aged,
            used: now.used,
            resident,
            huge,
            giant,
            splits,
            collapses,
            zeroed,
            tables: host.table_frames().saturating_add(stage2.table_frames()).saturating_add(dirty.frames()),
            flushes: self.space.flushes.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            harvests,
            harvested,
        }
    }

    /// In leaves of which sizes stage 2 maps it just now. Walks all of it.
    pub fn census(&self, cpu: &Cpu, m: &I::Machine) -> Census {
        let slots = self.space.slots.all(&m.epoch().enter(cpu));
        let mut census = Census::new();
        for slot in &slots {
            self.space.stage2.census(cpu, m, slot.gfns(), &mut census);
        }
        census
    }

    /// What the guest's pages `gfns` are just now. Walks the host table there. What no slot shows counts as untouched.
    pub fn survey(&self, cpu: &Cpu, m: &I::Machine, gfns: GfnRange) -> Survey {
        let slots = self.space.slots.all(&m.epoch().enter(cpu));
        let mut found = Survey::default();
        for range in slots.iter().filter_map(|slot| slot.hvns_of(&gfns)) {
            found.add(&self.space.host.survey(cpu, m, range));
        }
        found
    }

    /// Frees everything. No CPU is in the VM nor enters it again.
    pub fn destroy(self, cpu: &Cpu, m: &I::Machine) {
        // Nobody reaches the Space through an object any more once it is off all their lists (R20).
        for (object, ..) in self.space.host.regions().shared() {
            object.unregister(cpu, m, &self.space);
        }
        match Counted::into_inner(self.space) {
            Some(space) => space.destroy(cpu, m),
            None => {
                debug_assert!(false, "R20: the memory of a VM is taken apart while somebody else can still reach it")
            }
        }
    }

    /// Populates a page.
    fn touch(&self, cpu: &Cpu, m: &I::Machine, page: Hvn) -> Result<(), MemError> {
        loop {
            match self.space.host.populate(cpu, m, page) {
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
            let slot = self.space.slots.find(&m.epoch().enter(cpu), gpa.page());
            let slot = slot.filter(|s| s.prot().contains(need)).ok_or(MemError::BadAddress)?;
            f(slot.hvn(gpa.page()).ok_or(MemError::BadAddress)?, offset, done..end)?;
            done = end;
        }
        Ok(())
    }
}
