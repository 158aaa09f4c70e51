//! The hypervisor's half: answers to faults, and their removal.

use hv_core::addr::{Gfn, GfnRange, Order, PAGE_SHIFT, Pfn};
use hv_core::epoch::{Cpu, WalkGuard};
use hv_core::isa::{DirtyMethod, Isa, MapError, SizeRule, Stage2, Unmapped, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::census::Census;
use hv_core::mmu::flush::FlushBatch;
use hv_core::mmu::lock::Mapping;
use hv_core::radix::format::{Leaf, Prot, Pte, TableRef};

use super::claim::{Claim, Hashed};
use super::entry::{Entry, Locked, Patience};
use super::first_run::FirstRun;
use super::resize::Tables;
use super::rmap::{Chain, Stale, reaches};
use super::table::{Parts, Processor};
use super::words::{C, LARGE_PAGE, R, first_pfn, prot, rc, real};

/// A hashed second stage. Its frames are taken once; a fault needs none.
#[derive(Debug)]
pub struct HashStage2 {
    tag: VmTag,
    tables: Tables,
    granule: Order,
    first_run: FirstRun,
}

impl HashStage2 {
    /// Where it is now.
    #[must_use]
    #[inline]
    pub fn parts(&self) -> Parts {
        self.tables.parts()
    }

    /// Which table is the guest's, of those that it has had.
    #[must_use]
    #[inline]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Whose it is.
    #[must_use]
    #[inline]
    pub fn tag(&self) -> VmTag {
        self.tag
    }

    /// Who may run on it.
    #[must_use]
    pub fn first_run(&self) -> &FirstRun {
        &self.first_run
    }

    /// The largest page that the guest may ask for.
    #[must_use]
    #[inline]
    pub fn granule(&self) -> Order {
        self.granule
    }

    /// First doubleword of the VM's partition-table entry, as a number (memory wants it big-endian): table and size,
    /// and 4 KiB as the page size of the virtual real mode area (Power ISA v3.0B, Book III 5.7.6.1).
    #[must_use]
    pub fn partition_entry(&self) -> u64 {
        let table = self.parts().table;
        table.base().0 << PAGE_SHIFT | u64::from(table.order().get().saturating_sub(6))
    }

    /// Publishes into an entry that is locked.
    fn publish<M: Processor>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        mut entry: Locked<'_>,
        claim: &Claim,
        x: &Mapping,
    ) -> Result<(), MapError> {
        let now = *entry.words();
        if !entry.is_as_claimed(claim) || now.is_free() || !x.prot().contains(Prot::READ) {
            return Err(MapError::Retry);
        }
        let fits = now.gfn() == x.gfn() && now.order() == x.order();
        if !fits || now.is_valid() && first_pfn(now.r, x.order()) != x.pfn() {
            debug_assert!(false, "R4: {x:?} does not fit what is there: {now:?}");
            return Err(MapError::Retry);
        }
        let mut chain = self.chain(m, g, now.gfn());
        let allowed = if now.is_valid() {
            if entry.allowed().contains(x.prot()) {
                return Ok(());
            }
            // Hardware may set R and C in what is there, with a store that knows nothing of ours.
            entry.make_absent();
            m.flush_entries(self.tag, &[entry.gone()]);
            chain.allow(&entry, x.prot());
            entry.allowed()
        } else {
            chain.link(&entry, claim.index(), x.prot());
            x.prot()
        };
        // What was noted while it was absent stays noted.
        let marks = entry.harvest();
        let leaf = Leaf { pfn: x.pfn(), prot: allowed, rc: rc(marks) };
        entry.make_valid(real(now.view, &leaf, x.order()));
        Ok(())
    }

    /// Has `f` change each valid entry that translates any of `r`, which is locked, and so is its chain; and before
    /// them, on behalf of their frame, the chain alone. May give `f` the same one again.
    fn each<M: Machine>(
        &self,
        cpu: &Cpu,
        m: &M,
        r: &GfnRange,
        mut f: impl FnMut(Gfn, &mut Chain<'_, M>, Option<Locked<'_>>),
    ) {
        let parts = self.parts();
        let mut chains = parts.chains(r).peekable();
        while chains.peek().is_some() {
            // A walk of its own for so many: who frees waits no longer than that.
            let guard = m.epoch().enter(cpu);
            for gfn in chains.by_ref().take(LARGE_PAGE.pages() as usize) {
                if !parts.is_unused(m, &guard, gfn) {
                    while let Err(locked) = self.each_of(m, &guard, gfn, r, &mut f) {
                        locked.wait();
                    }
                }
            }
        }
    }

    /// Those of one chain. One that is locked is returned, to be waited for without the chain, whose lock its holder may want
    /// (R9: he may be about to flush it), and then from the beginning again.
    fn each_of<'g, M: Machine>(
        &self,
        m: &'g M,
        g: &'g WalkGuard<'_>,
        gfn: Gfn,
        r: &GfnRange,
        f: &mut impl FnMut(Gfn, &mut Chain<'_, M>, Option<Locked<'_>>),
    ) -> Result<(), Entry<'g>> {
        let mut chain = self.chain(m, g, gfn);
        f(gfn, &mut chain, None);
        let mut at = chain.entries();
        while let Some(index) = chain.next(&mut at) {
            let entry = chain.entry(index);
            if !reaches(&entry.look(), r) {
                continue;
            }
            f(gfn, &mut chain, Some(entry.try_lock().ok_or(entry)?));
        }
        Ok(())
    }
}

/// Notes that an entry's translation is to be flushed.
fn note(f: &mut FlushBatch, entry: &Locked<'_>) {
    let order = entry.words().order();
    if let Some(gfns) = GfnRange::block(entry.words().gfn(), order) {
        f.note(gfns, order);
    }
}

/// Makes an entry absent on behalf of a zap, which flushes.
fn zap<M: Machine>(f: &mut FlushBatch, chain: &mut Chain<'_, M>, mut entry: Locked<'_>) {
    note(f, &entry);
    entry.make_absent();
    chain.unlink(&entry, Stale::Yes);
}

impl<I: Isa> Stage2<I> for HashStage2
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    fn create(cpu: &Cpu, m: &I::Machine, tag: VmTag) -> Option<Self> {
        let (config, first_run) = (m.hashed(tag)?, FirstRun::new(m.readiness(tag)?));
        let heads = Order::new(config.size.get().saturating_sub(2))?;
        let parts = [config.size, config.size, heads].map(|order| m.alloc_table(cpu, order));
        let [Some(table), Some(notes), Some(heads)] = parts else {
            free(cpu, m, tag, parts.into_iter().flatten());
            return None;
        };
        let parts = Parts { table, notes, heads, layout: m.layout(), number: 0 };
        Some(Self { tag, tables: Tables::new(parts), granule: config.granule, first_run })
    }

    fn destroy(self, cpu: &Cpu, m: &I::Machine) {
        self.first_run.end();
        free(cpu, m, self.tag, self.tables.all().into_iter().flatten());
    }

    fn dirty_method(&self) -> DirtyMethod {
        // C is the guest's to keep; stores are noticed by their faults.
        DirtyMethod::WriteProtect
    }

    #[inline(always)]
    fn size_rule(&self, claim: &I::Claim) -> SizeRule {
        SizeRule::Exactly(claim.claim().map_or(Order::PAGE, |claim| claim.order()))
    }

    fn map(&self, g: &WalkGuard<'_>, m: &I::Machine, claim: I::Claim, x: Mapping) -> Result<(), MapError> {
        let claim = claim.claim().ok_or(MapError::Retry)?;
        let entry = self.lock(m, g, claim.index(), Patience::Some).ok_or(MapError::Retry)?;
        self.publish(m, g, entry, &claim, &x)
    }

    fn unmap(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        r: GfnRange,
        f: &mut FlushBatch,
        mut changed: Option<&mut dyn FnMut(Gfn, Order)>,
    ) -> Unmapped {
        self.each(cpu, m, &r, |_, chain, entry| {
            let Some(mut entry) = entry else {
                // That the page was used is nothing to whatever comes in its place.
                chain.take_used();
                return;
            };
            if entry.harvest() & C != 0
                && let Some(changed) = &mut changed
            {
                changed(entry.words().gfn(), entry.words().order());
            }
            zap(f, chain, entry);
        });
        Unmapped::All
    }

    fn protect(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch) {
        // Rights cannot be taken from an entry that hardware may be about to mark: it is made absent, and the next
        // access, of whatever kind, brings back what the host side then allows.
        self.each(cpu, m, &r, |_, chain, entry| {
            if let Some(mut entry) = entry
                && entry.allowed().contains(Prot::WRITE)
            {
                if entry.harvest() & R != 0 {
                    chain.set_used();
                }
                zap(f, chain, entry);
            }
        });
    }

    fn collect(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch, changed: &mut dyn FnMut(Gfn, Order)) {
        self.each(cpu, m, &r, |_, _, entry| {
            if let Some(mut entry) = entry
                && take(f, &mut entry, C)
            {
                changed(entry.words().gfn(), entry.words().order());
            }
        });
    }

    fn age(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch, noted: &mut dyn FnMut(Gfn, Order)) {
        self.each(cpu, m, &r, |gfn, chain, entry| {
            if let Some(mut entry) = entry {
                if take(f, &mut entry, R) {
                    noted(entry.words().gfn(), entry.words().order());
                }
            } else if chain.take_used() && r.contains(gfn) {
                noted(gfn, Order::PAGE);
            }
        });
    }

    fn table_frames(&self) -> u64 {
        self.tables.all().into_iter().flatten().map(|table| table.order().pages()).sum()
    }

    fn census(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, into: &mut Census) {
        self.each(cpu, m, &r, |_, _, entry| {
            if let Some(entry) = entry {
                into.add(entry.words().order());
            }
        });
    }

    fn lookup(&self, cpu: &Cpu, m: &I::Machine, gfn: Gfn) -> Pte {
        let mut found = Pte::Hole;
        let Some(page) = GfnRange::new(gfn, 1) else { return found };
        self.each(cpu, m, &page, |_, _, entry| {
            if let Some(mut entry) = entry {
                entry.harvest();
                let now = entry.words();
                let within = gfn.since(now.gfn()).unwrap_or(0);
                let pfn = Pfn(first_pfn(now.r, now.order()).0 | within);
                found = Pte::Leaf(Leaf { pfn, prot: prot(now.r), rc: rc(now.r) });
            }
        });
        found
    }
}

/// Frees tables, no more than five, that no CPU will use again.
pub(super) fn free<M: Machine>(cpu: &Cpu, m: &M, tag: VmTag, tables: impl IntoIterator<Item = TableRef>) {
    let mut batch = FlushBatch::whole(tag);
    for table in tables {
        // A new batch has room for more.
        let _: Result<(), TableRef> = batch.hold(table);
    }
    m.flush(batch).release(cpu, m);
}

/// Takes a mark that hardware may set again once it has been flushed. To the guest it stays set.
fn take(f: &mut FlushBatch, entry: &mut Locked<'_>, mark: u64) -> bool {
    let marked = entry.clear(mark) != 0;
    if marked {
        entry.set_view(entry.words().view | mark);
        note(f, entry);
    }
    marked
}
