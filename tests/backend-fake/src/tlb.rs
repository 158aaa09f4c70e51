//! One CPU's translation caches, as adversarial as an architecture allows.
//!
//! Nothing is ever evicted: what was cached is used until a flush names it, whatever the tables say by then. Addresses
//! of tables are cached as well (walk caches), and a flush of ranges does not reach those. What a flush does not name
//! stays. Permission faults do look again, as hardware does.

use hv_core::addr::{Gfn, Order, Pfn};
use hv_core::isa::{RadixFormat, VmTag};
use hv_core::mmu::flush::{FlushBatch, Scope};
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef};
use hv_core::sync::Ordering;

use crate::format::Skewed;
use crate::ram::Ram;

/// A cached leaf.
#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: VmTag,
    /// First guest frame of the leaf.
    gfn: Gfn,
    order: Order,
    leaf: Leaf,
    /// The time when it was filled, on the clock that dates every frame's use.
    since: u64,
}

/// A cached table address: entries at `level` of the table that covers `prefix`.
#[derive(Clone, Copy, Debug)]
struct Pointer {
    tag: VmTag,
    level: u8,
    prefix: u64,
    table: TableRef,
}

/// The caches.
#[derive(Debug, Default)]
pub struct Tlb {
    leaves: Vec<Entry>,
    pointers: Vec<Pointer>,
}

/// Key bits below the index of a table at `level`.
fn below(level: u8) -> u32 {
    Skewed::BITS.iter().take(usize::from(level)).map(|b| u32::from(*b)).sum()
}

fn bits(level: u8) -> u32 {
    Skewed::BITS.get(usize::from(level)).map_or(0, |b| u32::from(*b))
}

impl Tlb {
    /// The frame through which the guest reaches `gfn` with `need`, or `None` for a second-stage fault.
    pub fn translate(&mut self, ram: &Ram, root: TableRef, tag: VmTag, gfn: Gfn, need: Prot) -> Option<Pfn> {
        let cached =
            self.leaves.iter().position(|e| e.tag == tag && e.gfn.0 <= gfn.0 && gfn.0 - e.gfn.0 < e.order.pages());
        if let Some(n) = cached {
            let e = self.leaves[n];
            let changed = !need.contains(Prot::WRITE) || e.leaf.rc.contains(Rc::CHANGED);
            if e.leaf.prot.contains(need) && changed {
                return Some(Self::inside(ram, &e, gfn));
            }
            // Too weak: hardware forgets this entry and walks again.
            self.leaves.swap_remove(n);
        }
        let entry = self.walk(ram, root, tag, gfn, need)?;
        self.leaves.push(entry);
        Some(Self::inside(ram, &entry, gfn))
    }

    fn inside(ram: &Ram, e: &Entry, gfn: Gfn) -> Pfn {
        let pfn = Pfn(e.leaf.pfn.0 + (gfn.0 - e.gfn.0));
        if ram.reused_since(pfn, e.since) {
            ram.violation(format!("R9: {gfn:?} is still cached as {pfn:?}, which has found another use"));
        }
        pfn
    }

    /// Hardware's walk: no guard, cached table addresses first, lowest level first.
    fn walk(&mut self, ram: &Ram, root: TableRef, tag: VmTag, gfn: Gfn, need: Prot) -> Option<Entry> {
        let top = (Skewed::BITS.len() - 1) as u8;
        if gfn.0 >> (below(top) + bits(top)) != 0 {
            return None;
        }
        let covers = |p: &&Pointer| p.tag == tag && gfn.0 >> (below(p.level) + bits(p.level)) == p.prefix;
        let start = self.pointers.iter().filter(covers).min_by_key(|p| p.level).map(|p| (p.level, p.table));
        let (mut level, mut table) = start.unwrap_or((top, root));
        loop {
            let slot = (gfn.0 >> below(level)) & ((1 << bits(level)) - 1);
            let cell = ram.cell(table, slot as usize, "hardware");
            // Before the entry is read: whatever the frame becomes after that is for a flush to tell.
            let since = ram.clock();
            let raw = cell.load(Ordering::Acquire);
            match Skewed::decode(raw, level) {
                Pte::Table { table: next, .. } if level > 0 => {
                    level -= 1;
                    table = next;
                    let prefix = gfn.0 >> (below(level) + bits(level));
                    self.pointers.push(Pointer { tag, level, prefix, table });
                }
                Pte::Leaf(leaf) if leaf.prot.contains(need) => {
                    let mut used = leaf;
                    used.rc |= Rc::REFERENCED;
                    used.rc.set(Rc::CHANGED, leaf.rc.contains(Rc::CHANGED) || need.contains(Prot::WRITE));
                    let word = Skewed::encode(Pte::Leaf(used), level);
                    if cell.compare_exchange(raw, word, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                        continue;
                    }
                    let order = Order::new(below(level) as u8)?;
                    return Some(Entry { tag, gfn: gfn.align_down(order), order, leaf: used, since });
                }
                Pte::Hole | Pte::Transition(_) | Pte::Leaf(_) | Pte::Table { .. } => return None,
            }
        }
    }

    /// Forgets exactly what the batch names.
    pub fn flush(&mut self, batch: &FlushBatch) {
        let tag = batch.tag();
        match batch.scope() {
            Scope::Nothing => {}
            Scope::Ranges(ranges) => self.leaves.retain(|e| {
                let hit =
                    ranges.iter().any(|r| e.gfn.0 < r.gfns.end().0 && r.gfns.start().0 < e.gfn.0 + e.order.pages());
                e.tag != tag || !hit
            }),
            Scope::Vm => {
                self.leaves.retain(|e| e.tag != tag);
                self.pointers.retain(|p| p.tag != tag);
            }
        }
    }
}
