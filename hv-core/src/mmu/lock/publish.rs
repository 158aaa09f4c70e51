//! Inside a commit section: from the proof to a present leaf. A child of `lock`, so that nothing else can make a
//! [`Mapping`].

use core::marker::PhantomData;

use super::{BATCH, Fresh, Mapping, Prepared, Primary, PrimaryTested, Retry, Target};
use crate::addr::{Gfn, GfnRange, Hvn, HvnRange, Order, Pfn};
use crate::host::{HostSpace, Pages, Peek};
use crate::isa::{DirtyMethod, Isa, MapError, Stage2};
use crate::memslot::Slot;
use crate::mmu::level::{Bounds, Logging, order};
use crate::radix::format::Prot;

impl Mapping {
    /// The first guest frame, aligned to the order.
    #[must_use]
    pub fn gfn(&self) -> Gfn {
        self.gfn
    }

    /// The first physical frame, aligned to the order.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// The size.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// What the guest may do. Less than slot and host page allow, if stores are to be noticed.
    #[must_use]
    pub fn prot(&self) -> Prot {
        self.prot
    }
}

impl Prepared<'_> {
    /// It.
    #[inline]
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

impl<'g> Fresh<'g> {
    /// [`Fresh::install`] takes a [`Primary`] and no frame or size of another kind.
    pub const PRIMARY_TESTED: PrimaryTested = PrimaryTested(());

    /// The host table's leaf behind `page`, read now. `Retry` if there is none, or one in transition.
    pub fn primary<I: Isa>(&self, m: &I::Machine, host: &HostSpace<I>, page: Hvn) -> Result<Primary<'g>, Retry> {
        self.told(page, host.seen(m, self.walk, page))
    }

    /// Publishes the translation of `gfn`, seen through `slot`, as large as all bounds allow. Returns its size.
    #[inline]
    pub fn install<I: Isa>(
        self,
        to: &Target<'_, I>,
        slot: &Slot,
        gfn: Gfn,
        primary: Primary<'_>,
    ) -> Result<Order, MapError> {
        self.put(to, slot, self.mapping(to, slot, gfn, &primary)?)
    }

    /// What [`Fresh::install`] would publish, for who publishes it himself, in this section; the dirty log has been told. Part of
    /// whoever calls it.
    #[inline(always)]
    pub fn prepare<I: Isa>(
        &self,
        to: &Target<'_, I>,
        slot: &Slot,
        gfn: Gfn,
        primary: Primary<'_>,
    ) -> Result<Prepared<'g>, MapError> {
        let mapping = self.mapping(to, slot, gfn, &primary)?;
        if mapping.log == Logging::On
            && let Some(pages) = GfnRange::block(mapping.gfn, mapping.order)
        {
            self.mark(to, slot, &pages);
        }
        Ok(Prepared { mapping, section: PhantomData })
    }

    /// Publishes the translation of `gfn` with those of the rest of `block` around it, as the dirty log has it: page by page,
    /// the others for loads only. With no log, one that is as large as may be.
    pub fn install_among<I: Isa>(
        self,
        to: &Target<'_, I>,
        host: &HostSpace<I>,
        slot: &Slot,
        gfn: Gfn,
        block: GfnRange,
    ) -> Result<Order, MapError> {
        let hvn = slot.hvn(gfn).ok_or(MapError::Retry)?;
        let primary = self.primary(to.machine, host, hvn)?;
        if to.dirty.active().is_some() {
            let others = Target { need: Prot::READ, ..*to };
            let near = GfnRange::block(gfn, Order::MIB2).and_then(|near| near.intersect(&block));
            // What finds no place is left to its own fault.
            let _ = self.each(&others, host, slot, near.ok_or(MapError::Retry)?);
        }
        self.install(to, slot, gfn, primary)
    }

    /// Publishes what the host table has behind the first [`BATCH`] pages of `gfns`. Returns the guest frame to go on from:
    /// the end, or earlier at a page that is not there or that was refused; an error only if it is about the first page.
    pub fn install_each<I: Isa>(
        self,
        to: &Target<'_, I>,
        host: &HostSpace<I>,
        slot: &Slot,
        gfns: GfnRange,
    ) -> Result<Gfn, MapError> {
        self.each(to, host, slot, gfns)
    }

    fn each<I: Isa>(
        &self,
        to: &Target<'_, I>,
        host: &HostSpace<I>,
        slot: &Slot,
        gfns: GfnRange,
    ) -> Result<Gfn, MapError> {
        let mut pages = host.pages(to.machine, self.walk);
        let mut gfn = gfns.start();
        let end = gfn.checked_add(BATCH).map_or(gfns.end(), |end| end.min(gfns.end()));
        while gfn < end {
            match self.install_some(to, &mut pages, slot, gfn, end) {
                Ok(next) if next == gfn => break,
                Ok(next) => gfn = next,
                Err(error) if gfn == gfns.start() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(gfn.min(gfns.end()))
    }

    /// One large translation, or a run of pages, from `gfn` on.
    fn install_some<I: Isa>(
        &self,
        to: &Target<'_, I>,
        host: &mut Pages<'_, I>,
        slot: &Slot,
        gfn: Gfn,
        end: Gfn,
    ) -> Result<Gfn, MapError> {
        let mut mapping = |gfn| {
            let hvn = slot.hvn(gfn)?;
            let primary = self.told(hvn, host.peek(hvn)).ok()?;
            Some(self.mapping(to, slot, gfn, &primary))
        };
        let Some(first) = mapping(gfn).transpose()? else { return Ok(gfn) };
        if first.order > Order::PAGE {
            let next = first.gfn.checked_add(first.order.pages()).unwrap_or(end);
            return self.put(to, slot, first).map(|_| next);
        }
        let Some(run) = end.since(gfn).and_then(|pages| GfnRange::new(gfn, pages)) else { return Ok(gfn) };
        let next = to.stage2.map_run(self.walk, to.machine, to.claim, run, |gfn| {
            mapping(gfn)?.ok().filter(|page| page.order == Order::PAGE)
        })?;
        if first.log == Logging::On
            && let Some(done) = next.since(gfn).and_then(|pages| GfnRange::new(gfn, pages))
        {
            self.mark(to, slot, &done);
        }
        Ok(next)
    }

    /// What the host table was seen to have behind `page`.
    #[inline(always)]
    fn told(&self, page: Hvn, seen: Peek) -> Result<Primary<'g>, Retry> {
        match seen {
            Peek::Page(now) if self.pages.contains(page) => {
                Ok(Primary { page, pfn: now.pfn, order: now.order, prot: now.prot, section: PhantomData })
            }
            Peek::Page(_) | Peek::Absent | Peek::Swapped | Peek::Retry | Peek::OutOfReach => Err(Retry),
        }
    }

    /// The translation of `gfn`, as large as all bounds allow.
    #[inline(always)]
    fn mapping<I: Isa>(&self, to: &Target<'_, I>, slot: &Slot, gfn: Gfn, p: &Primary<'_>) -> Result<Mapping, MapError> {
        let mut prot = slot.prot().intersection(p.prot);
        if slot.hvn(gfn) != Some(p.page) || !prot.contains(to.need) {
            return Err(MapError::Retry);
        }
        let rule = to.stage2.size_rule(&to.claim);
        let log = if to.dirty.active().is_some() { Logging::On } else { Logging::Off };
        let bounds = Bounds { gfn, hvn: p.page, pfn: p.pfn, host: p.order, slot, rule, log };
        let order = order(&bounds).map_err(MapError::Unfit)?;
        let traps = log == Logging::On && to.stage2.dirty_method() == DirtyMethod::WriteProtect;
        // Where stores are noticed by their faults, what is only read now must fault at its first store.
        if traps && !to.need.contains(Prot::WRITE) {
            prot.remove(Prot::WRITE);
        }
        let log = if traps && prot.contains(Prot::WRITE) { Logging::On } else { Logging::Off };
        // A bracket may be open over the rest of the block, of which nothing has been tested yet.
        if order > Order::PAGE {
            let block = HvnRange::block(p.page, order).ok_or(MapError::Retry)?;
            if !self.pages.covers(&block) && self.notifier.covers_any(&block) {
                return Err(MapError::Retry);
            }
        }
        Ok(Mapping { gfn: gfn.align_down(order), pfn: p.pfn.align_down(order), order, prot, log })
    }

    #[inline]
    fn put<I: Isa>(&self, to: &Target<'_, I>, slot: &Slot, mapping: Mapping) -> Result<Order, MapError> {
        let (gfn, order, log) = (mapping.gfn, mapping.order, mapping.log);
        to.stage2.map(self.walk, to.machine, to.claim, mapping)?;
        if log == Logging::On
            && let Some(pages) = GfnRange::block(gfn, order)
        {
            self.mark(to, slot, &pages);
        }
        Ok(order)
    }

    /// Notes that pages were stored to, or may be from now on: in the section that published them, so that whoever takes the
    /// bits has waited for both.
    #[cold]
    fn mark<I: Isa>(&self, to: &Target<'_, I>, slot: &Slot, gfns: &GfnRange) {
        if let Some(pages) = slot.hvns_of(gfns) {
            to.dirty.mark(to.machine, self.walk, &pages);
        }
    }
}
