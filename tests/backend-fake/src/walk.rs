//! How the fake's hardware finds a translation in memory, and sets R and C there.

use backend_ppc64::hash::table::Parts;
use hv_core::addr::{Gfn, Order};
use hv_core::isa::{RadixFormat, VmTag};
use hv_core::machine::CpuId;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef};
use hv_core::sync::Ordering;

use crate::check::Translation;
use crate::format::Skewed;
use crate::hash::{self, HashStage2};
use crate::hpt;
use crate::ram::Ram;
use crate::tlb::{Caches, Entry, Pointer, Source};

/// What a CPU is told of a VM's second stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The root of a radix table.
    Radix(TableRef),
    /// A hashed table.
    Hash(TableRef),
    /// POWER's hashed table.
    Hpt(Parts),
}

/// An access that finds no translation, or one too weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed;

/// Key bits below the index of a table at `level`.
fn below(level: u8) -> u32 {
    Skewed::BITS.iter().take(usize::from(level)).map(|b| u32::from(*b)).sum()
}

fn bits(level: u8) -> u32 {
    Skewed::BITS.get(usize::from(level)).map_or(0, |b| u32::from(*b))
}

const TOP: u8 = (Skewed::BITS.len() - 1) as u8;

/// One CPU's hardware, at work for one VM.
#[derive(Clone, Copy, Debug)]
pub struct Walker<'a> {
    pub ram: &'a Ram,
    pub caches: &'a Caches,
    pub cpu: CpuId,
    pub tag: VmTag,
    pub view: View,
}

impl Walker<'_> {
    /// A translation of `gfn` that allows `need`, from memory. R is set, and C if `need` is to write.
    pub fn walk(&self, gfn: Gfn, need: Prot) -> Result<Entry, Missed> {
        match self.view {
            View::Radix(root) => self.radix(root, gfn, need),
            View::Hash(table) => self.hash(table, gfn, need),
            View::Hpt(parts) => self.hpt(parts, gfn, need),
        }
    }

    /// Walks the tables, from the lowest one whose address is cached.
    fn radix(&self, root: TableRef, gfn: Gfn, need: Prot) -> Result<Entry, Missed> {
        if gfn.0 >> below(TOP + 1) != 0 {
            return Err(Missed);
        }
        let cached = self.caches.shortcut(self.cpu, self.tag, gfn, |level| below(level + 1));
        let (mut level, mut table) = cached.map_or((TOP, root), |p| (p.level, p.table));
        loop {
            let slot = (gfn.0 >> below(level) & ((1 << bits(level)) - 1)) as usize;
            let cell = self.ram.cell(table, slot, "hardware");
            // Before the entry is read: whatever the frame becomes after that is for a flush to tell.
            let since = self.ram.clock();
            let raw = cell.load(Ordering::Acquire);
            match Skewed::decode(raw, level) {
                Pte::Table { table: next, .. } if level > 0 => {
                    level -= 1;
                    table = next;
                    let prefix = gfn.0 >> below(level + 1);
                    self.caches.point(self.cpu, Pointer { tag: self.tag, level, prefix, table });
                }
                Pte::Leaf(leaf) if leaf.prot.contains(need) => {
                    let mut leaf = Leaf { rc: leaf.rc | Rc::REFERENCED, ..leaf };
                    leaf.rc.set(Rc::CHANGED, leaf.rc.contains(Rc::CHANGED) || need.contains(Prot::WRITE));
                    let word = Skewed::encode(Pte::Leaf(leaf), level);
                    if word != raw && cell.compare_exchange(raw, word, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                        continue;
                    }
                    let order = Order::new(below(level) as u8).ok_or(Missed)?;
                    let source = Source::Radix { table, slot, level };
                    return Ok(Entry { tag: self.tag, gfn: gfn.align_down(order), order, leaf, since, source });
                }
                Pte::Hole | Pte::Swapped(_) | Pte::Transition(_) | Pte::Leaf(_) | Pte::Table { .. } => {
                    return Err(Missed);
                }
            }
        }
    }

    /// Looks through the groups where an entry for `gfn` may be. The two words are read one after the other, as hardware may.
    fn hash(&self, table: TableRef, gfn: Gfn, need: Prot) -> Result<Entry, Missed> {
        for order in hash::ORDERS.iter().copied() {
            let base = gfn.align_down(order);
            let group = hash::group_of(base, order, HashStage2::entries(table));
            for index in group..group + hash::GROUP {
                let since = self.ram.clock();
                let first = self.ram.cell(table, 2 * index, "hardware").load(Ordering::Acquire);
                let words = hash::Words::new(first, 0);
                if !words.is_valid() || !words.is_for(base, order) {
                    continue;
                }
                let cell = self.ram.cell(table, 2 * index + 1, "hardware");
                let mut leaf = hash::leaf(cell.load(Ordering::Acquire));
                if leaf.prot.contains(need) {
                    let mut used = Rc::REFERENCED;
                    used.set(Rc::CHANGED, need.contains(Prot::WRITE));
                    leaf.rc |= used;
                    cell.fetch_or(hash::rc_bits(used), Ordering::AcqRel);
                    return Ok(Entry {
                        tag: self.tag,
                        gfn: base,
                        order,
                        leaf,
                        since,
                        source: Source::Hash { table, index },
                    });
                }
            }
        }
        Err(Missed)
    }

    /// Looks through both groups where POWER has an entry for `gfn`.
    fn hpt(&self, parts: Parts, gfn: Gfn, need: Prot) -> Result<Entry, Missed> {
        let since = self.ram.clock();
        let (index, gfn, order, mut leaf) = hpt::walk(self.ram, &parts, gfn, need).ok_or(Missed)?;
        let mut used = Rc::REFERENCED;
        used.set(Rc::CHANGED, need.contains(Prot::WRITE));
        leaf.rc |= used;
        hpt::mark(self.ram, &parts, index, used);
        Ok(Entry { tag: self.tag, gfn, order, leaf, since, source: Source::Hpt { parts, index } })
    }

    /// Sets C in memory for a store through `entry`, which is cached as clean. Whatever else has happened to the entry in
    /// memory meanwhile, the store goes through, unless it is a radix entry that no longer translates so at all. Entries of
    /// a hashed table are not looked at again: C is set in whatever is there.
    pub fn set_changed(&self, entry: &Entry) -> Result<(), Missed> {
        match entry.source {
            Source::Hash { table, index } => {
                self.ram.cell(table, 2 * index + 1, "hardware").fetch_or(hash::rc_bits(Rc::CHANGED), Ordering::AcqRel);
                Ok(())
            }
            Source::Hpt { parts, index } => {
                hpt::mark(self.ram, &parts, index, Rc::CHANGED);
                Ok(())
            }
            Source::Radix { table, slot, level } => {
                let cell = self.ram.cell(table, slot, "hardware");
                loop {
                    let raw = cell.load(Ordering::Acquire);
                    let Pte::Leaf(leaf) = Skewed::decode(raw, level) else { return Err(Missed) };
                    if leaf.pfn != entry.leaf.pfn {
                        return Err(Missed);
                    }
                    let word = Skewed::encode(Pte::Leaf(Leaf { rc: leaf.rc | Rc::CHANGED, ..leaf }), level);
                    if cell.compare_exchange(raw, word, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// All translations that a second stage holds, as hardware would find them.
pub fn leaves(ram: &Ram, view: View) -> Vec<Translation> {
    let mut found = Vec::new();
    match view {
        View::Hpt(parts) => return hpt::leaves(ram, &parts),
        View::Radix(root) => radix_leaves(ram, root, TOP, Gfn(0), &mut found),
        View::Hash(table) => {
            for index in 0..HashStage2::entries(table) {
                let word = |n| ram.cell(table, 2 * index + n, "a check").load(Ordering::Acquire);
                let words = hash::Words::new(word(0), 0);
                if words.is_valid() {
                    found.push(Translation { gfn: words.gfn(), order: words.order(), leaf: hash::leaf(word(1)) });
                }
            }
        }
    }
    found
}

fn radix_leaves(ram: &Ram, table: TableRef, level: u8, from: Gfn, found: &mut Vec<Translation>) {
    for slot in 0..1_u64 << bits(level) {
        let gfn = Gfn(from.0 | slot << below(level));
        let raw = ram.cell(table, slot as usize, "a check").load(Ordering::Acquire);
        match Skewed::decode(raw, level) {
            Pte::Table { table, .. } if level > 0 => radix_leaves(ram, table, level - 1, gfn, found),
            Pte::Leaf(leaf) => {
                let order = Order::new(below(level) as u8).unwrap_or(Order::MAX);
                found.push(Translation { gfn, order, leaf });
            }
            Pte::Hole => {}
            Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => {
                ram.violation(format!("R3: an entry of {table:?} at rest is {raw:#x}"));
            }
        }
    }
}
