//! Changing a radix table while others walk and change it.
//!
//! Every change is a compare-and-swap from the word that was decoded (R4); a lost race is looked at afresh. No lock is
//! taken here: what must be mutually exclusive with what is the business of the table's owner (`host/`, `mmu/`).

use core::marker::PhantomData;
use core::ops::ControlFlow;

use super::walk::{Node, Seen, descend, in_reach, look};
use crate::addr::Order;
use crate::epoch::{Cpu, WalkGuard, never_published};
use crate::isa::RadixFormat;
use crate::machine::Machine;
use crate::radix::format::{Leaf, Place, Pte, TableRef, Transition};
use crate::sync::{AtomicU64, Ordering};

/// A radix table of format `F`.
#[derive(Debug)]
pub struct Radix<F> {
    pub(super) root: TableRef,
    /// Frames that its tables hold, the root's included.
    pub(super) frames: AtomicU64,
    format: PhantomData<fn() -> F>,
}

/// Why a leaf was not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditError {
    /// No memory for a table page, or a walk from which none may be taken.
    NoTable,
    /// An entry on the way is in transition: try again.
    Retry,
    /// The key is beyond the geometry, or the leaf's size or alignment fits no level.
    Unfit,
    /// Another translation is there already.
    Occupied,
    /// A table of smaller leaves, empty or not, is there already.
    TableInWay,
    /// A leaf of this larger order is there already, for the same frames, and allows less.
    LeafInWay(Order),
}

/// Takes what [`Radix::unmap`], [`Radix::detach`] and [`Radix::prune`] remove.
pub trait Removed {
    /// True if there is room for one more leaf or table. Asked before each removal; false ends the edit early.
    fn room(&self) -> bool;
    /// A leaf of `order` at `key` was there.
    fn leaf(&mut self, key: u64, order: Order, leaf: Leaf);
    /// An entry for a page that is kept at `place` was there. Host tables have such entries, and no other format.
    fn swapped(&mut self, _key: u64, _place: Place) {
        debug_assert!(false, "R24: an entry for a kept page is lost");
    }
    /// A table was unlinked. Walkers may still be in it and hardware may have cached its address.
    fn table(&mut self, table: TableRef);
}

impl<F: RadixFormat> Radix<F> {
    /// An empty table; `None` if there is no memory for its root, or the format has no levels.
    pub fn new<M: Machine>(cpu: &Cpu, m: &M) -> Option<Self> {
        let root = m.alloc_table(cpu, TableRef::order_of(*F::BITS.last()?)?)?;
        Some(Self { root, frames: AtomicU64::new(root.order().pages()), format: PhantomData })
    }

    /// The root table, for the register or structure that tells hardware of it.
    pub fn root(&self) -> TableRef {
        self.root
    }

    /// How many frames its tables hold.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// The entry where the walk for `key` ends; `None` if the geometry has no such key. Part of whoever calls it, for the
    /// way of a fault.
    #[inline(always)]
    pub fn walk<'g, M: Machine>(&self, m: &'g M, g: &'g WalkGuard<'_>, key: u64) -> Option<Seen<'g>> {
        Some(self.walk_to(m, g, key)?.1)
    }

    /// The same, and the table in which that entry is.
    #[inline(always)]
    pub(super) fn walk_to<'g, M: Machine>(&self, m: &'g M, g: &'g WalkGuard<'_>, key: u64) -> Option<(Node, Seen<'g>)> {
        if !in_reach::<F>(key) {
            return None;
        }
        Some(descend::<F, M>(m, g, Node::root::<F>(self.root)?, key))
    }

    /// What [`Radix::walk`] answers, by a call: for everybody else.
    #[inline]
    pub fn entry<'g, M: Machine>(&self, m: &'g M, g: &'g WalkGuard<'_>, key: u64) -> Option<Seen<'g>> {
        Some(self.entry_in(m, g, key)?.1)
    }

    /// What [`Radix::walk_to`] answers, by a call.
    #[inline(never)]
    pub(super) fn entry_in<'g, M: Machine>(
        &self,
        m: &'g M,
        g: &'g WalkGuard<'_>,
        key: u64,
    ) -> Option<(Node, Seen<'g>)> {
        self.walk_to(m, g, key)
    }

    /// Publishes `leaf` for the `order` pages from `key`.
    ///
    /// A leaf for the same frame that allows as much is left; one of the same size that allows less is strengthened. Losing a
    /// race to an equal leaf is success.
    #[inline]
    pub fn map<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        key: u64,
        order: Order,
        leaf: Leaf,
    ) -> Result<(), EditError> {
        // Nearly always all tables are there and the entry is a hole: one walk, one compare-and-swap.
        if order.aligned(key)
            && leaf.pfn.is_aligned(order)
            && let Some(seen) = self.walk(m, g, key)
            && seen.pte == Pte::Hole
            && seen.order == order
            && seen.swap::<F>(Pte::Leaf(leaf))
        {
            return Ok(());
        }
        self.map_otherwise(m, g, key, order, leaf)
    }

    /// What most often is left: there is a leaf of that size and frame, which allows less. With a walk of its own: who finds a
    /// hole, as nearly everybody does, is not to carry more of what it saw than that (45 instructions a map, else 55).
    #[cold]
    fn map_otherwise<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        key: u64,
        order: Order,
        new: Leaf,
    ) -> Result<(), EditError> {
        if let Some(seen) = self.walk(m, g, key)
            && let Pte::Leaf(old) = seen.pte
            && seen.order == order
            && old.pfn == new.pfn
        {
            let both = Leaf { pfn: old.pfn, prot: old.prot.union(new.prot), rc: old.rc.union(new.rc) };
            if both == old || seen.swap::<F>(Pte::Leaf(both)) {
                return Ok(());
            }
        }
        self.map_from_root(m, g, key, order, new)
    }

    /// The general case: tables are missing, something is there already, or a race was lost.
    #[cold]
    pub(super) fn map_from_root<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        key: u64,
        order: Order,
        leaf: Leaf,
    ) -> Result<(), EditError> {
        if !in_reach::<F>(key) || !order.aligned(key) || !leaf.pfn.is_aligned(order) {
            return Err(EditError::Unfit);
        }
        let mut node = Node::root::<F>(self.root).ok_or(EditError::Unfit)?;
        loop {
            let seen = look::<F, M>(m, g, node, key);
            match seen.pte {
                Pte::Table { table, bits } => {
                    if node.leaf_order() <= order {
                        return Err(EditError::TableInWay);
                    }
                    node = node.child(table, bits).ok_or(EditError::Retry)?;
                }
                Pte::Hole if node.leaf_order() == order => {
                    if seen.swap::<F>(Pte::Leaf(leaf)) {
                        return Ok(());
                    }
                }
                Pte::Hole if node.leaf_order() < order => return Err(EditError::Unfit),
                Pte::Hole => self.grow(m, g, &seen)?,
                Pte::Leaf(old) => match strengthened(&seen, key, order, old, leaf) {
                    None => return Err(EditError::Occupied),
                    Some(new) if new == old => return Ok(()),
                    // What is asked for one page is not for all of them: the others' stores would go unlogged (exhibit E6).
                    Some(new) if new.prot != old.prot && seen.order != order => {
                        return Err(EditError::LeafInWay(seen.order));
                    }
                    Some(new) => {
                        if seen.swap::<F>(Pte::Leaf(new)) {
                            return Ok(());
                        }
                    }
                },
                Pte::Swapped(_) => return Err(EditError::Occupied),
                Pte::Transition(_) => return Err(EditError::Retry),
            }
        }
    }

    /// Puts an empty table under the hole `seen`. A lost race is no error: the winner's entry is looked at next.
    fn grow<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, seen: &Seen<'_>) -> Result<(), EditError> {
        let below = seen.level.checked_sub(1).ok_or(EditError::Unfit)?;
        let bits = *F::BITS.get(usize::from(below)).ok_or(EditError::Unfit)?;
        let order = TableRef::order_of(bits).ok_or(EditError::Unfit)?;
        // Nothing has been changed yet: a walk that may not take frames ends here.
        let cpu = g.cpu().ok_or(EditError::NoTable)?;
        let table = m.alloc_table(cpu, order).ok_or(EditError::NoTable)?;
        if seen.swap::<F>(Pte::Table { table, bits }) {
            self.frames.fetch_add(order.pages(), Ordering::Relaxed);
        } else {
            m.free_table(cpu, never_published(table));
        }
        Ok(())
    }

    /// Removes the leaves that cover any key of `from..to`, whole ones even if they reach beyond it, and the entries for
    /// kept pages, and gives them to `out`; a page that is arriving finds nobody any more who waits for it. Returns the key to go on from: `to`, or earlier if `out` had no more room (R22).
    #[inline]
    pub fn unmap<M: Machine, R: Removed>(&self, m: &M, g: &WalkGuard<'_>, from: u64, to: u64, out: &mut R) -> u64 {
        // One page, as most often: one walk, one compare-and-swap.
        if to.checked_sub(from) == Some(1)
            && out.room()
            && let Some(seen) = self.walk(m, g, from)
            && let Pte::Leaf(leaf) = seen.pte
            && seen.swap::<F>(Pte::Hole)
        {
            out.leaf(seen.order.align_down(from), seen.order, leaf);
            return to;
        }
        self.unmap_each(m, g, from, to, out)
    }

    /// The general case: many pages, or a race was lost.
    #[inline(never)]
    fn unmap_each<M: Machine, R: Removed>(&self, m: &M, g: &WalkGuard<'_>, from: u64, to: u64, out: &mut R) -> u64 {
        self.each_entry(m, g, from, to, |seen, key| {
            if !matches!(seen.pte, Pte::Leaf(_) | Pte::Swapped(_) | Pte::Transition(Transition::Arriving(_))) {
                return Step::Next;
            }
            if !out.room() {
                return Step::Stop;
            }
            if !seen.swap::<F>(Pte::Hole) {
                return Step::Again;
            }
            match seen.pte {
                Pte::Leaf(leaf) => out.leaf(key, seen.order, leaf),
                Pte::Swapped(place) => out.swapped(key, place),
                Pte::Hole | Pte::Table { .. } | Pte::Transition(_) => {}
            }
            Step::Next
        })
    }

    /// Shows each leaf that covers a key of `from..to`, with its first key, until told to stop. Returns the key to go on
    /// from.
    pub fn visit<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        from: u64,
        to: u64,
        mut show: impl FnMut(u64, Order, Leaf) -> ControlFlow<()>,
    ) -> u64 {
        let mut more = ControlFlow::Continue(());
        self.each_leaf(m, g, from, to, |seen, key, leaf| {
            if more.is_break() {
                return Step::Stop;
            }
            more = show(key, seen.order, leaf);
            Step::Next
        })
    }

    /// Tells `f` of each leaf that covers a key of `from..to`: its first key, its size, what it holds.
    pub fn leaves<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        from: u64,
        to: u64,
        mut f: impl FnMut(u64, Order, Leaf),
    ) {
        self.each_leaf(m, g, from, to, |seen, key, leaf| {
            f(key, seen.order, leaf);
            Step::Next
        });
    }

    /// Calls `f` for each leaf that covers a key of `from..to`, in order. Whatever else is there is no translation.
    #[inline]
    pub(super) fn each_leaf<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        from: u64,
        to: u64,
        mut f: impl FnMut(&Seen<'_>, u64, Leaf) -> Step,
    ) -> u64 {
        self.each_entry(m, g, from, to, |seen, key| match seen.pte {
            Pte::Leaf(leaf) => f(seen, key, leaf),
            Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => Step::Next,
        })
    }

    /// Calls `f` for each entry, but tables, that covers a key of `from..to`, in order.
    ///
    /// Entries of one table are taken one after the other without a walk in between; the guard keeps it what it is. A
    /// frozen entry says that the table is going away, and perhaps that another one has taken its place: back to the
    /// root for that key.
    #[inline]
    fn each_entry<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        from: u64,
        to: u64,
        mut f: impl FnMut(&Seen<'_>, u64) -> Step,
    ) -> u64 {
        let mut key = from;
        while key < to {
            let Some((node, mut seen)) = self.entry_in(m, g, key) else { return to };
            loop {
                let start = seen.order.align_down(key);
                match f(&seen, start) {
                    Step::Next => {}
                    Step::Again => break,
                    Step::Stop => return key,
                }
                let Some(next) = start.checked_add(seen.order.pages()) else { return to };
                key = next;
                if key >= to || node.slot(key) == 0 {
                    break;
                }
                seen = look::<F, M>(m, g, node, key);
                if matches!(seen.pte, Pte::Table { .. } | Pte::Transition(Transition::Frozen)) {
                    break;
                }
            }
        }
        to
    }
}

/// What an edit of one leaf came to.
pub(super) enum Step {
    Next,
    Again,
    Stop,
}

impl Seen<'_> {
    /// Replaces exactly the word that was seen (R4). False if it has changed.
    #[inline(always)]
    pub(crate) fn swap<F: RadixFormat>(&self, new: Pte) -> bool {
        self.swap_word(F::encode(new, self.level))
    }

    /// As [`Seen::swap`], with a word that was read from this very entry before.
    #[inline(always)]
    pub(super) fn swap_word(&self, new: u64) -> bool {
        self.cell.compare_exchange(self.raw, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl<'g> Seen<'g> {
    /// As [`Seen::swap`], and what the entry holds then. `None` if it has changed.
    pub(super) fn replace<F: RadixFormat>(&self, new: Pte) -> Option<Seen<'g>> {
        let raw = F::encode(new, self.level);
        self.swap_word(raw).then_some(Seen { raw, pte: new, ..*self })
    }
}

/// `old` with what `new` allows added, if they translate `key` to the same frame.
fn strengthened(seen: &Seen<'_>, key: u64, order: Order, old: Leaf, new: Leaf) -> Option<Leaf> {
    if order > seen.order {
        return None;
    }
    let inside = key.checked_sub(seen.order.align_down(key))?;
    if old.pfn.checked_add(inside)? != new.pfn {
        return None;
    }
    Some(Leaf { pfn: old.pfn, prot: old.prot.union(new.prot), rc: old.rc.union(new.rc) })
}
