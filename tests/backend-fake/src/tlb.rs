//! The translation caches of all CPUs, as adversarial as an architecture allows.
//!
//! Nothing is ever evicted: what was cached is used until a flush names it, whatever the tables say by then. Addresses
//! of tables are cached as well (walk caches), and a flush of ranges does not reach those. What a flush does not name
//! stays.
//!
//! They live under one lock that is no part of the world (no model checker sees it, and it is never held across its
//! steps), so that any event can be held against what all CPUs have cached: G1 when a frame is used anew, G6 when a
//! table is freed, G9 when a CPU caches what another holds differently.

use std::sync::{Mutex, MutexGuard, PoisonError};

use backend_ppc64::hash::table::Parts;
use hv_core::addr::{Gfn, GfnRange, Order, Pfn};
use hv_core::isa::VmTag;
use hv_core::machine::CpuId;
use hv_core::mmu::flush::{FlushBatch, Scope};
use hv_core::radix::format::{Leaf, TableRef};

use crate::machine::CPUS;
use crate::own::Own;

/// Where a translation was read from: where its C bit is set if a store comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An entry of a radix table.
    Radix {
        /// The table.
        table: TableRef,
        /// The entry.
        slot: usize,
        /// The table's level.
        level: u8,
    },
    /// An entry of a hashed table.
    Hash {
        /// The table.
        table: TableRef,
        /// The entry.
        index: usize,
    },
    /// An entry of POWER's hashed table.
    Hpt {
        /// The table.
        parts: Parts,
        /// The entry.
        index: u64,
    },
}

/// A cached translation.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Whose.
    pub tag: VmTag,
    /// First guest frame of the leaf.
    pub gfn: Gfn,
    /// The leaf's size.
    pub order: Order,
    /// Frame, permission, and the R and C bits as cached.
    pub leaf: Leaf,
    /// The time when it was filled, on the clock that dates every frame's use.
    pub since: u64,
    /// Where it comes from.
    pub source: Source,
}

/// A cached table address: entries at `level` of the table that covers `prefix`.
#[derive(Clone, Copy, Debug)]
pub struct Pointer {
    /// Whose.
    pub tag: VmTag,
    /// The level of the table's entries.
    pub level: u8,
    /// The key bits above the table's own.
    pub prefix: u64,
    /// Where it is.
    pub table: TableRef,
}

/// One CPU's.
#[derive(Debug, Default)]
struct Cache {
    leaves: Vec<Entry>,
    pointers: Vec<Pointer>,
}

/// All CPUs'.
#[derive(Debug, Default)]
pub struct Caches(Mutex<[Cache; CPUS]>);

impl Entry {
    /// True if it translates `gfn` of the VM with this tag.
    pub fn covers(&self, tag: VmTag, gfn: Gfn) -> bool {
        self.tag == tag && gfn.align_down(self.order) == self.gfn
    }

    /// The frame of `gfn`, which it covers.
    pub fn frame(&self, gfn: Gfn) -> Pfn {
        Pfn(self.leaf.pfn.0 + (gfn.0 - self.gfn.0))
    }

    fn overlaps(&self, r: &GfnRange) -> bool {
        self.gfn < r.end() && r.start().0 < self.gfn.0 + self.order.pages()
    }

    /// True if both are about some address, and would not take it to the same place in the same way.
    fn conflicts(&self, other: &Self) -> bool {
        let (small, large) = if self.order <= other.order { (self, other) } else { (other, self) };
        large.covers(small.tag, small.gfn) && (small.order != large.order || large.frame(small.gfn) != small.leaf.pfn)
    }
}

impl Caches {
    fn lock(&self) -> MutexGuard<'_, [Cache; CPUS]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `cpu` has cached for `gfn`.
    pub fn find(&self, cpu: CpuId, tag: VmTag, gfn: Gfn) -> Option<Entry> {
        self.lock()[usize::from(cpu.0)].leaves.iter().copied().find(|e| e.covers(tag, gfn))
    }

    /// Caches a translation. Returns what some CPU holds to the contrary (G9).
    pub fn fill(&self, cpu: CpuId, new: Entry) -> Option<(CpuId, Entry)> {
        let _own = Own::begin();
        let mut all = self.lock();
        let held = all.iter().enumerate().flat_map(|(n, cache)| cache.leaves.iter().map(move |e| (n, e)));
        let conflict = held.filter(|(_, e)| e.conflicts(&new)).map(|(n, e)| (CpuId(n as u16), *e)).next();
        all[usize::from(cpu.0)].leaves.push(new);
        conflict
    }

    /// Replaces what `cpu` has cached for the address of `new`, which came from the same place.
    pub fn update(&self, cpu: CpuId, new: Entry) {
        let mut all = self.lock();
        let same = |e: &&mut Entry| e.tag == new.tag && e.gfn == new.gfn && e.source == new.source;
        if let Some(old) = all[usize::from(cpu.0)].leaves.iter_mut().find(same) {
            *old = new;
        }
    }

    /// Forgets what `cpu` has cached for `gfn`, as hardware does with an entry that was too weak.
    pub fn forget(&self, cpu: CpuId, tag: VmTag, gfn: Gfn) {
        self.lock()[usize::from(cpu.0)].leaves.retain(|e| !e.covers(tag, gfn));
    }

    /// The cached table address that saves most of a walk for `gfn`, where `bits_above(level)` tells how many low key
    /// bits a table at `level` translates.
    pub fn shortcut(&self, cpu: CpuId, tag: VmTag, gfn: Gfn, bits_above: impl Fn(u8) -> u32) -> Option<Pointer> {
        let all = self.lock();
        let covers = |p: &&Pointer| p.tag == tag && gfn.0 >> bits_above(p.level) == p.prefix;
        all[usize::from(cpu.0)].pointers.iter().filter(covers).min_by_key(|p| p.level).copied()
    }

    /// Caches a table's address.
    pub fn point(&self, cpu: CpuId, pointer: Pointer) {
        let _own = Own::begin();
        self.lock()[usize::from(cpu.0)].pointers.push(pointer);
    }

    /// `cpu` forgets exactly what the batch names.
    pub fn flush(&self, cpu: usize, batch: &FlushBatch) {
        let tag = batch.tag();
        let cache = &mut self.lock()[cpu];
        match batch.scope() {
            Scope::Nothing => {}
            Scope::Ranges(ranges) => {
                cache.leaves.retain(|e| e.tag != tag || !ranges.iter().any(|r| e.overlaps(&r.gfns)));
            }
            Scope::Vm => {
                cache.leaves.retain(|e| e.tag != tag);
                cache.pointers.retain(|p| p.tag != tag);
            }
        }
    }

    /// Who translates an address to one of these frames.
    pub fn names_frame(&self, first: Pfn, order: Order) -> Option<(CpuId, Entry)> {
        let hit = |e: &Entry| e.leaf.pfn.0 < first.0 + order.pages() && first.0 < e.leaf.pfn.0 + e.order.pages();
        self.each(|cpu, e| hit(e).then_some((cpu, *e)))
    }

    /// Who has the address of this table cached.
    pub fn names_table(&self, table: TableRef) -> Option<CpuId> {
        let all = self.lock();
        let holder = all.iter().position(|cache| cache.pointers.iter().any(|p| p.table == table));
        holder.map(|n| CpuId(n as u16))
    }

    /// Everything cached for a VM, on every CPU.
    pub fn of(&self, tag: VmTag) -> Vec<(CpuId, Entry)> {
        let mut found = Vec::new();
        self.each::<()>(|cpu, e| {
            if e.tag == tag {
                found.push((cpu, *e));
            }
            None
        });
        found
    }

    fn each<R>(&self, mut f: impl FnMut(CpuId, &Entry) -> Option<R>) -> Option<R> {
        let all = self.lock();
        all.iter().enumerate().find_map(|(n, cache)| cache.leaves.iter().find_map(|e| f(CpuId(n as u16), e)))
    }
}
