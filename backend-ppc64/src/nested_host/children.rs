//! The guests of one guest: their derived tables, by L1's numbers, within limits.
//!
//! A vCPU holds an L2 from its entry until it has told L1 why L2 left. There may be as many L2s as L1 has vCPUs, and
//! [`SPARE`] more: one that nobody holds makes room for another, so a vCPU that needs one gets it. Derived tables take memory
//! of the machine that is not counted as L1's; when all of them have more frames than [`Nest::new`] allows, they are emptied
//! and fill again by faults.
//!
//! Lock order: copying, the list, then what [`hv_core::mmu::derived`] takes. The list is held while caches are flushed; whoever runs an
//! L2 leaves hardware without it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hv_core::addr::{Gfn, GfnRange, Gpa, Order};
use hv_core::epoch::Cpu;
use hv_core::isa::VmTag;
use hv_core::machine::Machine;
use hv_core::mmu::derived::Derived;
use hv_core::radix::format::Pte;
use hv_core::radix::{Radix, Stage2Format};
use hv_core::sync::{AtomicU64, Mutex, Ordering};
use hv_core::vcpu::services::MemError;

use super::counts::{Counts, Event};
use super::guest::{Guest, destroy, place};
pub use super::guest::{Limits, Partitions};
use super::tlbie::Reach;
use super::walk::{Partition, PartitionTable};

/// L2s beside those that vCPUs hold.
pub const SPARE: usize = 8;
/// Derived tables may have a frame for so many of L1's pages: four times what a densely used memory of pages takes.
const PAGES_PER_FRAME: u64 = 128;
/// And so many in any case: a few roots.
const FRAMES: u64 = 256;
/// All L2s of one L1.
#[derive(Debug)]
pub struct Nest<F> {
    pub(super) derived: Derived<F>,
    /// L1's partition table, as its register's image; 0 if it has set none.
    table: AtomicU64,
    /// Held while something is copied by L1's tables, and while L1 invalidates what of them may be in use. Before the list.
    pub(super) copying: Mutex<()>,
    pub(super) guests: Mutex<Vec<Guest<F>>>,
    most: usize,
    frames: u64,
    counts: Counts,
}

/// No memory, or no name, for another L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl<F: Stage2Format> Nest<F> {
    /// None yet; `None` if there is no heap.
    #[must_use]
    pub fn new(limits: Limits) -> Option<Self> {
        Some(Self {
            derived: Derived::new(limits.pages)?,
            copying: Mutex::new(()),
            table: AtomicU64::new(0),
            guests: Mutex::new(Vec::new()),
            most: usize::from(limits.vcpus) + SPARE,
            frames: limits.pages / PAGES_PER_FRAME + FRAMES,
            counts: Counts::new(),
        })
    }

    /// The tables, for whoever changes what they are derived from.
    #[must_use]
    pub fn derived(&self) -> &Derived<F> {
        &self.derived
    }

    /// L1's partition table.
    #[must_use]
    pub fn table(&self) -> Option<PartitionTable> {
        PartitionTable::of(self.table.load(Ordering::Relaxed))
    }

    /// L1 has another partition table, or none. What was read of the old one is compared at the next entry.
    pub fn set_table(&self, table: Option<PartitionTable>) {
        self.table.store(table.map_or(0, PartitionTable::image), Ordering::Relaxed);
    }

    /// A vCPU enters the vCPU `token` of the L2 `lpid`, whose entry of the partition table says `partition`.
    pub fn hold<M: Partitions>(
        &self,
        cpu: &Cpu,
        m: &M,
        (lpid, token): (u32, u32),
        partition: Partition,
    ) -> Result<VmTag, NoRoom> {
        let now = self.counts.add(Event::Entry);
        let mut guests = self.guests.lock();
        let at = match guests.iter().position(|guest| guest.lpid == lpid) {
            Some(at) => at,
            None => self.add(cpu, m, &mut guests, lpid, partition)?,
        };
        let guest = guests.get_mut(at).ok_or(NoRoom)?;
        self.follow(cpu, m, guest, partition);
        guest.holders += 1;
        guest.used = now;
        place(m, cpu, guest, token);
        Ok(guest.tag)
    }

    /// The vCPU that holds it continues on this CPU.
    pub fn moved<M: Partitions>(&self, cpu: &Cpu, m: &M, held: VmTag, token: u32) {
        if let Some(guest) = self.guests.lock().iter_mut().find(|guest| guest.tag == held) {
            place(m, cpu, guest, token);
        }
    }

    /// The vCPU that holds it is back in L1.
    pub fn put(&self, held: VmTag) {
        if let Some(guest) = self.guests.lock().iter_mut().find(|guest| guest.tag == held) {
            guest.holders = guest.holders.saturating_sub(1);
        }
    }

    /// Makes an L2 and returns where it is in the list.
    fn add<M: Partitions>(
        &self,
        cpu: &Cpu,
        m: &M,
        guests: &mut Vec<Guest<F>>,
        lpid: u32,
        partition: Partition,
    ) -> Result<usize, NoRoom> {
        if guests.len() >= self.most || self.frames_of(guests) > self.frames {
            self.evict(cpu, m, guests);
        }
        if guests.len() >= self.most {
            return Err(NoRoom);
        }
        guests.try_reserve(1).map_err(|_| NoRoom)?;
        let tag = match m.take_name() {
            Some(tag) => tag,
            None => {
                self.evict(cpu, m, guests);
                m.take_name().ok_or(NoRoom)?
            }
        };
        let guest = Radix::new(cpu, m).map(|table| Guest {
            lpid,
            tag,
            table: Arc::new(table),
            partition,
            holders: 0,
            used: 0,
            places: Vec::new(),
        });
        let Some(guest) = guest else {
            m.give_name(tag);
            return Err(NoRoom);
        };
        // Known to the family before hardware may walk it (R19).
        let adopted = self.derived.adopt(cpu, tag, Arc::clone(&guest.table)).is_ok();
        if !adopted || !m.set_child(tag, Some((guest.table.root(), partition.processes))) {
            self.derived.dismiss(cpu, m, tag);
            destroy(cpu, m, guest);
            return Err(NoRoom);
        }
        guests.push(guest);
        Ok(guests.len().saturating_sub(1))
    }

    /// Takes away the L2 that was not entered for longest, of those that nobody holds.
    fn evict<M: Partitions>(&self, cpu: &Cpu, m: &M, guests: &mut Vec<Guest<F>>) {
        let idle = guests.iter().enumerate().filter(|(_, guest)| guest.holders == 0);
        if let Some((at, _)) = idle.min_by_key(|(_, guest)| guest.used) {
            let guest = guests.swap_remove(at);
            self.derived.dismiss(cpu, m, guest.tag);
            destroy(cpu, m, guest);
        }
    }

    /// Takes over what L1's partition table says of an L2.
    fn follow<M: Partitions>(&self, cpu: &Cpu, m: &M, guest: &mut Guest<F>, partition: Partition) {
        if guest.partition.tree != partition.tree {
            // Before anything of the new tree is read.
            guest.partition.tree = partition.tree;
            self.derived.clear(cpu, m, guest.tag);
        }
        if guest.partition.processes != partition.processes {
            guest.partition.processes = partition.processes;
            let set = m.set_child(guest.tag, Some((guest.table.root(), partition.processes)));
            debug_assert!(set, "a root that an entry pointed at");
        }
    }

    /// L1's tree of an L2 that a vCPU holds; 0 if nobody does.
    pub(super) fn tree(&self, held: VmTag) -> u64 {
        self.guests.lock().iter().find(|guest| guest.tag == held).map_or(0, |guest| guest.partition.tree)
    }

    /// L1 says that its tables have changed. `partition` reads an entry of the partition table, for those that are known.
    pub fn invalidate<M: Partitions>(
        &self,
        cpu: &Cpu,
        m: &M,
        reach: Reach,
        mut partition: impl FnMut(u32) -> Result<Option<Partition>, (Gpa, MemError)>,
    ) -> Result<(), (Gpa, MemError)> {
        let _no_copy = self.copying.lock();
        self.counts.add(Event::Invalidation);
        let mut guests = self.guests.lock();
        for guest in guests.iter_mut() {
            match reach {
                Reach::Pages(lpid, pages) if lpid == guest.lpid => self.derived.release(cpu, m, guest.tag, &pages),
                Reach::One(lpid) if lpid != guest.lpid => {}
                Reach::One(_) | Reach::All => {
                    let read = partition(guest.lpid)?;
                    self.derived.release(cpu, m, guest.tag, &EVERYTHING);
                    if let Some(partition) = read {
                        self.follow(cpu, m, guest, partition);
                    }
                }
                Reach::Pages(..) => {}
            }
        }
        Ok(())
    }

    /// Empties derived tables: all, if they are as large as they may be or `anyway`. True if that freed anything.
    pub fn trim<M: Partitions>(&self, cpu: &Cpu, m: &M, anyway: bool) -> bool {
        let guests = self.guests.lock();
        let before = self.frames_of(&guests);
        if before <= self.frames && !anyway {
            return false;
        }
        guests.iter().for_each(|guest| self.derived.clear(cpu, m, guest.tag));
        self.frames_of(&guests) < before
    }

    /// What a derived table has at an address. For inspection and tests.
    pub fn lookup<M: Machine>(&self, cpu: &Cpu, m: &M, held: VmTag, at: Gfn) -> Option<(Order, Pte)> {
        let guests = self.guests.lock();
        let walk = m.epoch().enter(cpu);
        let seen = guests.iter().find(|guest| guest.tag == held)?.table.entry(m, &walk, at.0)?;
        Some((seen.order, seen.pte))
    }

    fn frames_of(&self, guests: &[Guest<F>]) -> u64 {
        guests.iter().map(|guest| guest.table.frames()).sum()
    }

    /// Frames that derived tables have.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames_of(&self.guests.lock())
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many L2s there are.
    #[must_use]
    pub fn guests(&self) -> usize {
        self.guests.lock().len()
    }

    /// Frees all of it. No CPU is in any L2 nor enters one again.
    pub fn destroy<M: Partitions>(self, cpu: &Cpu, m: &M) {
        let guests = core::mem::take(&mut *self.guests.lock());
        for guest in &guests {
            self.derived.dismiss(cpu, m, guest.tag);
        }
        guests.into_iter().for_each(|guest| destroy(cpu, m, guest));
    }
}

const EVERYTHING: GfnRange = match GfnRange::new(Gfn(0), u64::MAX) {
    Some(range) => range,
    None => panic!("a range from 0 ends where numbers do"),
};
