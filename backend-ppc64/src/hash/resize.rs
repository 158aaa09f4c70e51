//! H_RESIZE_HPT: the guest's table becomes another, of another size (LoPAPR 14.5.4, H_RESIZE_HPT_PREPARE and _COMMIT).
//!
//! ```text
//!   PREPARE  frames for the new table; nothing else changes
//!   COMMIT   MOVING is set: whoever locks an entry from now on finds that the table is not his to change, and lets go
//!            each entry locked once (whoever had it before is done then): absent, out of the reverse map -> flush
//!            R and C read (R14); bolted entries -> new table, absent. No room for one: MOVING is taken back
//!            the new table is the table -> hardware goes by it -> flush, grace -> the old frames are free (R20)
//! ```
//!
//! **The test under the entry's lock** ([`HashStage2::lock`], exhibit D3): a table is chosen before an entry is locked, and may
//! have been left meanwhile. Real mode then defers, a fault is taken again, and virtual mode waits: MOVING lasts for as long
//! as it takes to look at each entry, and its owner waits for hardware only, never for a walk. An absent entry is always
//! allowed, so a move that finds no room has changed nothing that a guest can tell.
//!
//! Chains keep their heads. While MOVING is set nobody links anything, and when the new table is the table no chain has an
//! entry any more, so who holds a chain's lock finds in it the entries of the table of that moment.

use hv_core::addr::{Order, PAGE_SHIFT};
use hv_core::epoch::{Cpu, WalkGuard};
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;
use hv_core::radix::format::TableRef;
use hv_core::sync::{AtomicU64, Mutex, Ordering, SMALL, spin_loop};

use super::entry::{Locked, Patience};
use super::place;
use super::rmap::Stale;
use super::stage2::{HashStage2, free};
use super::table::{GROUP, Parts, Processor, SIZES};
use super::words::{BOLTED, R};

/// The state's lowest bit; above it is the number of the table.
const MOVING: u64 = 1;
const NUMBER: u32 = 1;
/// Sizes that PAPR has, as log2 of bytes.
const PAPR_SIZES: core::ops::RangeInclusive<u64> = 18..=46;
/// Entries that are looked at in one walk.
const AT_ONCE: u64 = 1024;

/// Why the table stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such size.
    Size,
    /// It is more than this guest may have.
    Quota,
    /// The machine has no frames for it.
    NoMemory,
    /// No table of this size has been prepared.
    NotPrepared,
    /// A bolted entry finds no room in the new one.
    Full,
}

/// Frames of a table, in numbers; read and written as a whole by the state's protocol.
#[derive(Debug, Default)]
struct Frames {
    table: AtomicU64,
    notes: AtomicU64,
}

/// Which table is the guest's.
#[derive(Debug)]
pub struct Tables {
    /// Number of the table, and [`MOVING`].
    state: AtomicU64,
    /// Table 0: few guests have another.
    first: Parts,
    /// The others, by the lowest bit of their number. The one that is not in use is written under `next`.
    later: [Frames; 2],
    /// The largest that the guest may have.
    largest: Order,
    /// What has been prepared. Held by whoever changes the table, or tells hardware of it.
    next: Mutex<Option<[TableRef; 2]>>,
}

fn packed(table: TableRef) -> u64 {
    table.base().0 << 8 | u64::from(table.order().get())
}

#[inline]
fn unpacked(word: u64) -> TableRef {
    TableRef::new(hv_core::addr::Pfn(word >> 8), Order::new(word as u8).unwrap_or(Order::PAGE))
}

impl Tables {
    /// This table, and none prepared. The guest may ask for one of twice its size.
    pub fn new(first: Parts) -> Self {
        let largest = Order::new(first.table.order().get().saturating_add(1).min(*SIZES.end()));
        let largest = largest.unwrap_or(first.table.order());
        Self { state: AtomicU64::new(0), first, later: Default::default(), largest, next: Mutex::new(None) }
    }

    #[inline]
    fn state(&self) -> u64 {
        // A model checker's tables have one size.
        if SMALL { 0 } else { self.state.load(Ordering::Acquire) }
    }

    /// The table as it is now. Its entries are looked at in a walk that was begun before.
    #[inline]
    pub fn parts(&self) -> Parts {
        let number = self.state() >> NUMBER;
        if number == 0 {
            return self.first;
        }
        let [even, odd] = &self.later;
        let Frames { table, notes } = if number & 1 == 0 { even } else { odd };
        let [table, notes] = [table, notes].map(|word| unpacked(word.load(Ordering::Relaxed)));
        Parts { table, notes, number, ..self.first }
    }

    /// The first table, whose heads all have.
    #[inline]
    pub(super) fn first(&self) -> &Parts {
        &self.first
    }

    /// True if these still are the guest's table, and it stays: told to whoever holds the lock of one of its entries.
    #[inline]
    pub(super) fn is(&self, parts: &Parts) -> bool {
        self.state() == parts.number << NUMBER
    }

    /// All frames, the prepared ones included.
    pub fn all(&self) -> [Option<TableRef>; 5] {
        let Parts { table, notes, heads, .. } = self.parts();
        let next = self.next.lock().map_or([None; 2], |tables| tables.map(Some));
        [Some(table), Some(notes), Some(heads), next[0], next[1]]
    }

    /// Calls `tell` with the table's partition entry, which stays what it is until it returns.
    pub fn telling<R>(&self, tell: impl FnOnce() -> R) -> R {
        let _next = self.next.lock();
        tell()
    }
}

impl HashStage2 {
    /// Locks an entry of the guest's table. In real mode `None` also while the table is being moved.
    pub fn lock<'g, M: Machine>(
        &self,
        m: &'g M,
        g: &'g WalkGuard<'_>,
        index: u64,
        patience: Patience,
    ) -> Option<Locked<'g>> {
        loop {
            let parts = self.parts();
            let locked = parts.entry(m, g, index).lock(patience)?;
            if self.tables().is(&parts) {
                return Some(locked);
            }
            drop(locked);
            if patience == Patience::Some {
                return None;
            }
            spin_loop();
        }
    }

    /// Makes a table of so many bytes (log2) ready; 0 gives up what is.
    pub fn prepare<M: Machine>(&self, cpu: &Cpu, m: &M, log2: u64) -> Result<(), Refused> {
        let order = match log2 {
            0 => None,
            _ => Some(self.order(log2)?),
        };
        let mut next = self.tables().next.lock();
        if next.is_some_and(|[table, _]| Some(table.order()) == order) {
            return Ok(());
        }
        let old = next.take();
        if let Some(order) = order {
            let tables = [m.alloc_table(cpu, order), m.alloc_table(cpu, order)];
            if let [Some(table), Some(notes)] = tables {
                *next = Some([table, notes]);
            } else {
                drop(next);
                free(cpu, m, self.tag(), tables.into_iter().flatten().chain(old.into_iter().flatten()));
                return Err(Refused::NoMemory);
            }
        }
        drop(next);
        if let Some(old) = old {
            free(cpu, m, self.tag(), old);
        }
        Ok(())
    }

    /// Goes over to the table that has been prepared. Its guest's CPUs do nothing else meanwhile, or wait. The caller is in no
    /// walk and holds no lock.
    pub fn commit<M: Processor>(&self, cpu: &Cpu, m: &M, log2: u64) -> Result<(), Refused> {
        let order = self.order(log2)?;
        let mut next = self.tables().next.lock();
        let [table, notes] = next.filter(|[table, _]| table.order() == order).ok_or(Refused::NotPrepared)?;
        *next = None;
        let old = self.parts();
        let new = Parts { table, notes, number: old.number + 1, ..old };
        let tables = self.tables();
        tables.state.store(old.number << NUMBER | MOVING, Ordering::Release);
        self.empty(cpu, m, &old);
        m.flush(FlushBatch::whole(self.tag())).release(cpu, m);
        if let Err(full) = self.carry(cpu, m, &old, &new) {
            tables.state.store(old.number << NUMBER, Ordering::Release);
            drop(next);
            free(cpu, m, self.tag(), [table, notes]);
            return Err(full);
        }
        let [even, odd] = &tables.later;
        let frames = if new.number & 1 == 0 { even } else { odd };
        frames.table.store(packed(table), Ordering::Relaxed);
        frames.notes.store(packed(notes), Ordering::Relaxed);
        tables.state.store(new.number << NUMBER, Ordering::Release);
        m.go_by(self.tag(), self.partition_entry());
        drop(next);
        free(cpu, m, self.tag(), [old.table, old.notes]);
        Ok(())
    }

    fn order(&self, log2: u64) -> Result<Order, Refused> {
        if !PAPR_SIZES.contains(&log2) {
            return Err(Refused::Size);
        }
        let order = Order::new((log2 - u64::from(PAGE_SHIFT)) as u8).ok_or(Refused::Quota)?;
        if order > self.tables().largest { Err(Refused::Quota) } else { Ok(order) }
    }

    /// Makes every entry absent, and the reverse map empty. Nobody links one any more.
    fn empty<M: Machine>(&self, cpu: &Cpu, m: &M, old: &Parts) {
        each(cpu, m, old, |g, _, mut entry| {
            if entry.words().is_valid() {
                entry.make_absent();
                self.chain(m, g, entry.words().gfn()).unlink(&entry, Stale::Yes);
            }
            Ok(())
        })
        .unwrap_or(());
    }

    /// Puts what is bolted into the new table. Everything has been flushed.
    fn carry<M: Machine>(&self, cpu: &Cpu, m: &M, old: &Parts, new: &Parts) -> Result<(), Refused> {
        each(cpu, m, old, |g, index, mut entry| {
            if entry.words().is_free() {
                return Ok(());
            }
            if entry.harvest() & R != 0 && entry.is_stale() {
                self.chain(m, g, entry.words().gfn()).set_used();
            }
            entry.set_fresh();
            let words = *entry.words();
            if words.v & BOLTED == 0 {
                return Ok(());
            }
            let group = place::moved(words.v, words.view, index / GROUP, new.groups());
            let group = group.ok_or(Refused::Full)?;
            // Where it stood in its group, or else anywhere.
            let slots = (0..GROUP).map(|n| (index + n) % GROUP);
            let mut entries = slots.map(|slot| new.entry(m, g, group * GROUP + slot));
            let mut to = entries.find_map(|to| to.try_lock().filter(|to| to.words().is_free())).ok_or(Refused::Full)?;
            to.put(words.v, words.told());
            Ok(())
        })
    }
}

/// Has `f` look at every entry of a table, locked.
fn each<M: Machine>(
    cpu: &Cpu,
    m: &M,
    table: &Parts,
    mut f: impl FnMut(&WalkGuard<'_>, u64, Locked<'_>) -> Result<(), Refused>,
) -> Result<(), Refused> {
    for first in (0..table.entries()).step_by(AT_ONCE as usize) {
        let walk = m.epoch().enter(cpu);
        for index in first..(first + AT_ONCE).min(table.entries()) {
            if let Some(entry) = table.entry(m, &walk, index).lock(Patience::Endless) {
                f(&walk, index, entry)?;
            }
        }
    }
    Ok(())
}
