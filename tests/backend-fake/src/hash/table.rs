//! The hypervisor's half: answers to faults, and their removal.

use hv_core::addr::{Gfn, GfnRange, Order};
use hv_core::epoch::{Cpu, WalkGuard};
use hv_core::isa::{DirtyMethod, Isa, MapError, SizeRule, Stage2, Unmapped, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::census::Census;
use hv_core::mmu::flush::FlushBatch;
use hv_core::mmu::lock::Mapping;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef};
use hv_core::sync::{AtomicU64, Mutex, Ordering, spin_loop};

use super::entry::{ABSENT, Claim, GROUP, LOCK, ORDERS, VALID, Words, group_of, leaf, rc_bits, second};
use super::rmap::{Record, Rmap};
use crate::cells::{CHECKED, WORDS};
use crate::machine::FakeMachine;

/// The table's size.
const SIZE: Order = match Order::new(6) {
    Some(order) if !CHECKED => order,
    _ => Order::PAGE,
};

/// A hashed second stage. Its frames are taken once; a fault needs none.
#[derive(Debug)]
pub struct HashStage2 {
    pub(super) tag: VmTag,
    pub(super) table: TableRef,
    pub(super) rmap: Mutex<Rmap>,
    /// Where in a full group the guest makes room next.
    pub(super) victim: AtomicU64,
}

/// An entry's two words in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'g> {
    first: &'g AtomicU64,
    pub second: &'g AtomicU64,
}

impl Entry<'_> {
    /// What it says, locked or not.
    pub fn words(&self) -> Words {
        Words::new(self.first.load(Ordering::Acquire), self.second.load(Ordering::Acquire))
    }

    /// Locks it, if it is not locked.
    pub fn try_lock(&self) -> Option<Words> {
        let first = self.first.load(Ordering::Relaxed);
        let free = first & LOCK == 0;
        let done =
            free && self.first.compare_exchange(first, first | LOCK, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        done.then(|| self.words())
    }

    /// Changes the first word, whose lock the caller holds and keeps.
    pub fn set(&self, first: u64) {
        self.first.store(first | LOCK, Ordering::Release);
    }

    /// Changes the first word, and lets the lock go.
    pub fn unlock(&self, first: u64) {
        self.first.store(first & !LOCK, Ordering::Release);
    }
}

impl HashStage2 {
    /// Where it is.
    pub fn table(&self) -> TableRef {
        self.table
    }

    /// How many entries a table has.
    pub fn entries(table: TableRef) -> usize {
        table.order().pages() as usize * WORDS / 2
    }

    /// Entry `index`, which the table has.
    pub(super) fn entry<'g>(&self, m: &'g FakeMachine, g: &'g WalkGuard<'_>, index: usize) -> Entry<'g> {
        let index = index % Self::entries(self.table);
        Entry { first: m.pte(g, self.table, 2 * index), second: m.pte(g, self.table, 2 * index + 1) }
    }

    /// The entry that covers `gfn`, as hardware would find it, and what it says.
    pub(super) fn find(&self, m: &FakeMachine, g: &WalkGuard<'_>, gfn: Gfn) -> Option<Claim> {
        ORDERS.iter().find_map(|order| {
            let first = group_of(gfn.align_down(*order), *order, Self::entries(self.table));
            (first..first + GROUP).find_map(|index| {
                let words = self.entry(m, g, index).words();
                words.is_for(gfn.align_down(*order), *order).then_some(Claim { index, words })
            })
        })
    }

    /// Locks an entry, waiting for it. The caller holds no guard. The lock survives the guard that it is taken in.
    pub(super) fn lock(&self, cpu: &Cpu, m: &FakeMachine, index: usize) -> Words {
        loop {
            if let Some(words) = self.entry(m, &m.epoch().enter(cpu), index).try_lock() {
                return words;
            }
            spin_loop();
        }
    }

    /// Publishes into an entry that the caller has locked; the result is its new first word.
    fn publish(&self, entry: &Entry<'_>, now: Words, claim: &Claim, x: &Mapping) -> Result<u64, MapError> {
        if now != claim.words || now.is_free() {
            return Err(MapError::Retry);
        }
        let fits = now.is_for(x.gfn(), x.order());
        let old = leaf(entry.second.load(Ordering::Acquire));
        if !fits || now.is_valid() && old.pfn != x.pfn() {
            debug_assert!(false, "{x:?} does not fit what is there: {now:?}");
            return Err(MapError::Retry);
        }
        if now.is_valid() {
            entry.second.fetch_or(u64::from(x.prot().bits()), Ordering::AcqRel);
            return Ok(now.state(VALID));
        }
        self.rmap.lock().link(claim.index, Record { gfn: x.gfn(), order: x.order() });
        // R and C stay as they are, and hardware may be setting them now.
        self.replace(entry, |old| Leaf { pfn: x.pfn(), prot: x.prot(), rc: old.rc });
        Ok(now.state(VALID))
    }

    fn replace(&self, entry: &Entry<'_>, new: impl Fn(Leaf) -> Leaf) {
        let mut old = entry.second.load(Ordering::Acquire);
        while let Err(now) =
            entry.second.compare_exchange(old, second(new(leaf(old))), Ordering::AcqRel, Ordering::Acquire)
        {
            old = now;
        }
    }

    /// Has `f` change each valid entry that translates any of `r`, locked, and note what must be flushed. `f` returns the
    /// entry's new first word.
    fn each(
        &self,
        (cpu, m): (&Cpu, &FakeMachine),
        r: &GfnRange,
        mut f: impl FnMut(usize, &Entry<'_>, Words, Record) -> u64,
    ) {
        let found = self.rmap.lock().within(r);
        for (index, record) in found {
            let words = self.lock(cpu, m, index);
            let guard = m.epoch().enter(cpu);
            let entry = self.entry(m, &guard, index);
            // The guest may have removed it, and used its place for something else.
            let still = self.rmap.lock().record(index) == Some(record);
            entry.unlock(if still { f(index, &entry, words, record) } else { words.state(state_of(words)) });
        }
    }

    /// Clears the mark `which` in each of them, and tells `noted` of those that had it.
    fn unmark(
        &self,
        at: (&Cpu, &FakeMachine),
        r: &GfnRange,
        which: Rc,
        f: &mut FlushBatch,
        noted: &mut dyn FnMut(Gfn, Order),
    ) {
        self.each(at, r, |_, entry, words, record| {
            let old = entry.second.fetch_and(!rc_bits(which), Ordering::AcqRel);
            if leaf(old).rc.contains(which) {
                noted(record.gfn, record.order);
                note(f, record);
            }
            words.state(VALID)
        });
    }

    /// What is wrong with the table where nobody is at work on it.
    pub fn faults_at_rest(&self, cpu: &Cpu, m: &FakeMachine) -> Vec<String> {
        let (guard, rmap) = (m.epoch().enter(cpu), self.rmap.lock());
        let mut faults = Vec::new();
        let mut valid = 0;
        for index in 0..Self::entries(self.table) {
            let entry = self.entry(m, &guard, index);
            let words = entry.words();
            valid += usize::from(words.is_valid());
            if entry.first.load(Ordering::Acquire) & LOCK != 0 {
                faults.push(format!("R27: entry {index} stayed locked"));
            }
            let record = rmap.record(index);
            if words.is_valid() && record != Some(Record { gfn: words.gfn(), order: words.order() }) {
                faults.push(format!("G7: {words:?} is recorded as {record:?}"));
            }
        }
        if valid != rmap.len() {
            faults.push(format!("G7: {} records of {valid} valid entries", rmap.len()));
        }
        faults
    }
}

pub(super) fn state_of(words: Words) -> u64 {
    match (words.is_free(), words.is_valid()) {
        (true, _) => 0,
        (false, true) => VALID,
        (false, false) => ABSENT,
    }
}

impl<I: Isa<Machine = FakeMachine, Claim = Claim>> Stage2<I> for HashStage2 {
    fn create(cpu: &Cpu, m: &FakeMachine, tag: VmTag) -> Option<Self> {
        let table = m.alloc_table(cpu, SIZE)?;
        Some(Self { tag, table, rmap: Mutex::new(Rmap::default()), victim: AtomicU64::new(0) })
    }

    fn destroy(self, cpu: &Cpu, m: &FakeMachine) {
        let mut batch = FlushBatch::whole(self.tag);
        batch.hold(self.table).expect("a new batch has room for a table");
        m.flush(batch).release(cpu, m);
    }

    fn dirty_method(&self) -> DirtyMethod {
        // Its C bits are set late and the guest's to keep; stores are noticed by their faults.
        DirtyMethod::WriteProtect
    }

    fn size_rule(&self, claim: &Claim) -> SizeRule {
        SizeRule::Exactly(claim.words.order())
    }

    fn map(&self, walk: &WalkGuard<'_>, m: &FakeMachine, claim: Claim, x: Mapping) -> Result<(), MapError> {
        let entry = self.entry(m, walk, claim.index);
        // Whoever holds it may be waiting for a flush, and the caller is inside a commit section.
        let now = entry.try_lock().ok_or(MapError::Retry)?;
        let done = self.publish(&entry, now, &claim, &x);
        entry.unlock(done.unwrap_or(now.state(state_of(now))));
        done.map(|_| ())
    }

    fn unmap(
        &self,
        cpu: &Cpu,
        m: &FakeMachine,
        r: GfnRange,
        f: &mut FlushBatch,
        _changed: Option<&mut dyn FnMut(Gfn, Order)>,
    ) -> Unmapped {
        self.each((cpu, m), &r, |index, _, words, record| {
            self.rmap.lock().unlink(index);
            note(f, record);
            words.state(ABSENT)
        });
        Unmapped::All
    }

    fn protect(&self, cpu: &Cpu, m: &FakeMachine, r: GfnRange, f: &mut FlushBatch) {
        self.each((cpu, m), &r, |_, entry, words, record| {
            let old = entry.second.fetch_and(!u64::from(Prot::WRITE.bits()), Ordering::AcqRel);
            if leaf(old).prot.contains(Prot::WRITE) {
                note(f, record);
            }
            words.state(VALID)
        });
    }

    fn collect(
        &self,
        cpu: &Cpu,
        m: &FakeMachine,
        r: GfnRange,
        f: &mut FlushBatch,
        changed: &mut dyn FnMut(Gfn, Order),
    ) {
        self.unmark((cpu, m), &r, Rc::CHANGED, f, changed);
    }

    fn age(&self, cpu: &Cpu, m: &FakeMachine, r: GfnRange, f: &mut FlushBatch, noted: &mut dyn FnMut(Gfn, Order)) {
        self.unmark((cpu, m), &r, Rc::REFERENCED, f, noted);
    }

    fn table_frames(&self) -> u64 {
        self.table.order().pages()
    }

    fn census(&self, _cpu: &Cpu, _m: &FakeMachine, r: GfnRange, into: &mut Census) {
        self.rmap.lock().within(&r).iter().for_each(|(_, record)| into.add(record.order));
    }

    fn lookup(&self, cpu: &Cpu, m: &FakeMachine, gfn: Gfn) -> Pte {
        let guard = m.epoch().enter(cpu);
        match self.find(m, &guard, gfn).filter(|found| found.words.is_valid()) {
            Some(found) => Pte::Leaf(leaf(self.entry(m, &guard, found.index).second.load(Ordering::Acquire))),
            None => Pte::Hole,
        }
    }
}

pub(super) fn note(f: &mut FlushBatch, record: Record) {
    if let Some(gfns) = record.gfns() {
        f.note(gfns, record.order);
    }
}
