//! Tables derived from another second stage: what a guest hypervisor's own guests run on.
//!
//! ```text
//!   the guest's guest's address --the guest's own table--> guest's address --parent: its stage 2--> frame
//!   child:  the guest's guest's address ----------------------------------------------------------> frame
//! ```
//!
//! A child is to its parent what stage 2 is to the host table: derived, dropped at any time, never larger, and wrong as
//! soon as the parent has changed. One sequence and one lock belong to a parent and all its children.
//!
//! ```text
//!   child's fault                                       parent
//!   seq = sample (R5)
//!   the guest's own table is read: a Wish
//!   resolve: the parent's entry; R, and C for a         weaken: lock
//!     store, are set in it: parent before child (R15)             R, C or permission taken from its entries; flush
//!   publish: lock                                                 sequence up
//!     sequence as sampled?                  (1)                   the same taken from their children; flush (R9)
//!     parent's entry as it is now: same frame?                    unlock
//!     its permission, R, C and size         (2)         forget: its entries are gone; lock
//!     leaf and record, together (R18)                             sequence up; children's leaves and records; flush
//!   unlock                                                        unlock
//! ```
//!
//! Mostly R and C are set already. So a fault is published first with nothing resolved, by (2) alone ([`Derived::answer`]), and
//! resolved only if that finds less than the access needs.
//!
//! **Two defences** keep a fault from giving a child what the parent has lost since (R15, R6): the sequence (1), and the
//! second look at the parent (2). Either alone is enough; museum exhibit A12 takes away each, and then both. The look has
//! to be in the section that publishes (exhibit G4). The first alone covers the guest's own table, which no second look is
//! taken at: what the guest invalidates, [`Derived::release`] takes away and raises the sequence.
//!
//! **Hardware has nothing to set in a child**, so R and C of a child are a subset of its parent's (G5) without its help:
//! a leaf there has R, and allows stores only if it has C. An access that is the first of its kind faults, and the fault
//! sets the bit in the parent. To take C away is therefore to take away permission to store, and to take R away is to
//! remove the leaf: that it was there was the reference.
//!
//! Who frees a frame has removed the parent's entries and called `forget` before. A fault that comes later finds nothing in
//! the parent; one that came before has left its record. Nothing here waits for a grace period.
//!
//! The lock is the highest in the order (`mmu/mod.rs`): `weaken` and `forget` are for who holds the parent's mmu lock. A
//! child's tables stay until it is cleared, its root until it is dismissed, and are freed by who made it.

mod child;
mod records;
mod wish;

use alloc::sync::Arc;
use alloc::vec::Vec;

use child::{Child, NotPublished, each, flush, frame, used};
use records::{End, Records};
pub use records::{NoMemory, Record};
pub use wish::{Refused, Resolved, Taken, Wish};

use crate::addr::{Gfn, GfnRange, Order};
use crate::epoch::{Cpu, WalkGuard};
use crate::isa::{RadixFormat, VmTag};
use crate::machine::Machine;
use crate::mmu::flush::FlushBatch;
use crate::radix::format::{Leaf, Pte, Rc};
use crate::radix::{Radix, Stage2Format};
use crate::sync::{AtomicU64, Ordering, Rank, Ranked};

/// All tables that are derived from one parent.
#[derive(Debug)]
pub struct Derived<F> {
    /// Raised, under the lock, whenever the parent or a guest's own table has lost something.
    seq: AtomicU64,
    family: Ranked<Family<F>>,
}

#[derive(Debug)]
struct Family<F> {
    children: Vec<Child<F>>,
    records: Records,
}

/// The sequence as it was before anything was read. Not `Copy`: one sample, one attempt.
#[derive(Debug)]
pub struct ParentSeq(u64);

impl ParentSeq {
    /// Its value. What was read of a guest's table after one sample still holds after another one of the same value.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.0
    }
}

impl<F: Stage2Format> Derived<F> {
    /// None yet, of a parent that translates so many pages; `None` if there is no heap.
    #[must_use]
    pub fn new(pages: u64) -> Option<Self> {
        let family = Family { children: Vec::new(), records: Records::new(pages)? };
        Some(Self { seq: AtomicU64::new(0), family: Ranked::new(Rank::Derived, family) })
    }

    /// Samples the sequence: before the guest's own table is read, and before [`Derived::resolve`] (R5).
    #[must_use]
    pub fn sample(&self) -> ParentSeq {
        // Acquire pairs with `raise`: who reads its sequence reads what came before it too.
        ParentSeq(self.seq.load(Ordering::Acquire))
    }

    fn raise(&self) {
        self.seq.fetch_add(1, Ordering::Release);
    }

    /// A new child, all of whose entries are holes. It is known from here on (R19).
    pub fn adopt(&self, cpu: &Cpu, tag: VmTag, table: Arc<Radix<F>>) -> Result<(), NoMemory> {
        let children = &mut self.family.lock(cpu).children;
        children.try_reserve(1).map_err(|_| NoMemory)?;
        children.push(Child::new(tag, table));
        Ok(())
    }

    /// Answers a child's fault: [`Derived::publish`], after [`Derived::resolve`] where that is needed. Returns the leaf's size.
    /// The caller holds no guard.
    pub fn answer<P: RadixFormat, M: Machine>(
        &self,
        cpu: &Cpu,
        m: &M,
        parent: &Radix<P>,
        seq: ParentSeq,
        wish: Wish,
    ) -> Result<Order, Refused> {
        if !wish.prot.contains(wish.need) {
            return Err(Refused::Unfit);
        }
        let unseen = Resolved { seq: ParentSeq(seq.0), wish, pfn: None, prot: wish.prot, rc: Rc::all() };
        match self.commit(cpu, m, parent, &unseen) {
            Ok(order) => Ok(order),
            Err(NotPublished::Refused(why)) => Err(why),
            Err(NotPublished::Unseen | NotPublished::InWay(_)) => {
                let resolved = self.resolve(m, &m.epoch().enter(cpu), parent, seq, wish)?;
                self.publish(cpu, m, parent, resolved)
            }
        }
    }

    /// Looks at the parent, and sets what the access sets. Takes no lock.
    pub fn resolve<P: RadixFormat, M: Machine>(
        &self,
        m: &M,
        walk: &WalkGuard<'_>,
        parent: &Radix<P>,
        seq: ParentSeq,
        wish: Wish,
    ) -> Result<Resolved, Refused> {
        if !wish.prot.contains(wish.need) {
            return Err(Refused::Unfit);
        }
        loop {
            let seen = parent.entry(m, walk, wish.from.0).ok_or(Refused::Parent)?;
            let leaf = match seen.pte {
                Pte::Leaf(leaf) if leaf.prot.contains(wish.need) => leaf,
                Pte::Transition(_) => return Err(Refused::Retry),
                Pte::Leaf(_) | Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) => return Err(Refused::Parent),
            };
            let rc = leaf.rc.union(used(wish.need));
            if rc == leaf.rc || seen.swap::<P>(Pte::Leaf(Leaf { rc, ..leaf })) {
                let pfn = frame(&seen, leaf, wish.from);
                return Ok(Resolved {
                    seq,
                    wish,
                    pfn: Some(pfn.ok_or(Refused::Parent)?),
                    prot: leaf.prot.intersection(wish.prot),
                    rc,
                });
            }
        }
    }

    /// Publishes the answer, if it is still true, as large as everybody allows. Returns its size. The caller holds no guard.
    pub fn publish<P: RadixFormat, M: Machine>(
        &self,
        cpu: &Cpu,
        m: &M,
        parent: &Radix<P>,
        r: Resolved,
    ) -> Result<Order, Refused> {
        self.commit(cpu, m, parent, &r).map_err(|not| match not {
            NotPublished::Refused(why) => why,
            NotPublished::InWay(_) | NotPublished::Unseen => Refused::Retry,
        })
    }

    /// The section.
    fn commit<P: RadixFormat, M: Machine>(
        &self,
        cpu: &Cpu,
        m: &M,
        parent: &Radix<P>,
        r: &Resolved,
    ) -> Result<Order, NotPublished> {
        let Family { children, records } = &mut *self.family.lock(cpu);
        let child = children.iter_mut().find(|child| child.tag == r.wish.child).ok_or(Refused::NoChild)?;
        if self.seq.load(Ordering::Relaxed) != r.seq.0 {
            return Err(Refused::Retry.into());
        }
        let done = child.publish(m, &m.epoch().enter(cpu), parent, records, r);
        if let Err(NotPublished::InWay(block)) = &done {
            // The guest has changed its table and not said so yet: room is made, and the child faults again (R10).
            child.lose(cpu, m, records, End::Child, block);
        }
        done
    }

    /// Takes something from the parent's entries of `r` and from all that is derived of them, and flushes. `found` is told of
    /// each entry of the parent that had any of it; final when this has returned (R14). The caller holds the parent's mmu
    /// lock and no guard; `tag` is the parent's.
    pub fn weaken<P: RadixFormat, M: Machine>(
        &self,
        cpu: &Cpu,
        m: &M,
        (parent, tag): (&Radix<P>, VmTag),
        r: &GfnRange,
        taken: Taken,
        mut found: impl FnMut(Gfn, Order, Leaf),
    ) {
        let Family { children, records } = &mut *self.family.lock(cpu);
        let mut batch = FlushBatch::new(tag);
        // A large entry loses it for all of its pages, so all that is derived of those does.
        let mut reach = *r;
        each(m, &m.epoch().enter(cpu), parent, r, |seen, block, leaf| {
            let less = taken.from(leaf);
            let done = less == leaf || seen.swap::<P>(Pte::Leaf(less));
            if done && less != leaf {
                reach = reach.hull(&block);
                batch.note(block, seen.order);
                found(block.start(), seen.order, leaf);
            }
            done
        });
        self.raise();
        flush(m, batch);
        for child in children {
            if taken.rc.contains(Rc::REFERENCED) {
                child.lose(cpu, m, records, End::Parent, &reach);
            } else {
                child.weaken(cpu, m, records, &reach, taken);
            }
        }
    }

    /// Removes all that was derived of the parent's `r`, of which the parent itself has no entries any more, and flushes. The
    /// caller holds the parent's mmu lock and no guard.
    pub fn forget<M: Machine>(&self, cpu: &Cpu, m: &M, r: &GfnRange) {
        let Family { children, records } = &mut *self.family.lock(cpu);
        self.raise();
        for child in children {
            child.lose(cpu, m, records, End::Parent, r);
        }
    }

    /// Removes the translations of a child's own `r`: its guest hypervisor says that its table has changed there. Nothing
    /// that was read of that table before is published afterwards. The caller holds no guard.
    pub fn release<M: Machine>(&self, cpu: &Cpu, m: &M, tag: VmTag, r: &GfnRange) {
        let Family { children, records } = &mut *self.family.lock(cpu);
        self.raise();
        if let Some(child) = children.iter().find(|child| child.tag == tag) {
            child.lose(cpu, m, records, End::Child, r);
        }
    }

    /// Removes all translations of a child, as [`Derived::release`] does, and every table of it but the root. The caller holds
    /// no guard.
    pub fn clear<M: Machine>(&self, cpu: &Cpu, m: &M, tag: VmTag) {
        let Family { children, records } = &mut *self.family.lock(cpu);
        self.raise();
        if let Some(child) = children.iter_mut().find(|child| child.tag == tag) {
            child.clear(cpu, m, records);
        }
    }

    /// The child's end: nothing is published there any more, and nothing of it is cached. The caller frees the table when no
    /// CPU runs on it. It holds no guard.
    pub fn dismiss<M: Machine>(&self, cpu: &Cpu, m: &M, tag: VmTag) {
        let family = &mut *self.family.lock(cpu);
        family.children.retain(|child| child.tag != tag);
        if let Some(everything) = GfnRange::new(Gfn(0), u64::MAX) {
            family.records.take(End::Child, &everything, tag, |_| {});
        }
        flush(m, FlushBatch::whole(tag));
    }

    /// Shows all records. For inspection.
    pub fn records(&self, cpu: &Cpu, f: impl FnMut(&Record)) {
        self.family.lock(cpu).records.all().for_each(f);
    }
}
