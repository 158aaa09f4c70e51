//! Inside a commit section: from the proof to a present leaf. A child of `lock`, so that nothing else can make a
//! [`Mapping`].

use core::marker::PhantomData;

use super::{BATCH, Fresh, Mapping, Primary, PrimaryTested, Retry, Target};
use crate::addr::{Gfn, GfnRange, Hvn, HvnRange, Order, Pfn};
use crate::host::{HostSpace, Pages, Peek};
use crate::isa::{Isa, MapError, Stage2};
use crate::memslot::Slot;
use crate::mmu::level::{Bounds, order};
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

    /// What the guest may do.
    #[must_use]
    pub fn prot(&self) -> Prot {
        self.prot
    }
}

impl<'g> Fresh<'g> {
    /// [`Fresh::install`] takes a [`Primary`] and no frame or size of another kind.
    pub const PRIMARY_TESTED: PrimaryTested = PrimaryTested(());

    /// The host table's leaf behind `page`, read now. `Retry` if there is none, or one in transition.
    pub fn primary<I: Isa>(&self, m: &I::Machine, host: &HostSpace<I>, page: Hvn) -> Result<Primary<'g>, Retry> {
        self.told(page, host.peek(m, self.walk, page))
    }

    /// Publishes the translation of `gfn`, seen through `slot`, as large as all bounds allow. Returns its size.
    pub fn install<I: Isa>(
        self,
        to: &Target<'_, I>,
        slot: &Slot,
        gfn: Gfn,
        primary: Primary<'_>,
    ) -> Result<Order, MapError> {
        self.put(to, self.mapping(to, slot, gfn, &primary)?)
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
            return self.put(to, first).map(|_| next);
        }
        let Some(run) = end.since(gfn).and_then(|pages| GfnRange::new(gfn, pages)) else { return Ok(gfn) };
        to.stage2.map_run(self.walk, to.machine, to.claim, run, |gfn| {
            mapping(gfn)?.ok().filter(|page| page.order == Order::PAGE)
        })
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
        let prot = slot.prot().intersection(p.prot);
        if slot.hvn(gfn) != Some(p.page) || !prot.contains(to.need) {
            return Err(MapError::Retry);
        }
        let rule = to.stage2.size_rule(&to.claim);
        let order =
            order(&Bounds { gfn, hvn: p.page, pfn: p.pfn, host: p.order, slot, rule }).map_err(MapError::Unfit)?;
        // A bracket may be open over the rest of the block, of which nothing has been tested yet.
        if order > Order::PAGE {
            let block = HvnRange::block(p.page, order).ok_or(MapError::Retry)?;
            if !self.pages.covers(&block) && self.notifier.covers_any(&block) {
                return Err(MapError::Retry);
            }
        }
        Ok(Mapping { gfn: gfn.align_down(order), pfn: p.pfn.align_down(order), order, prot })
    }

    fn put<I: Isa>(&self, to: &Target<'_, I>, mapping: Mapping) -> Result<Order, MapError> {
        let order = mapping.order;
        to.stage2.map(self.walk, to.machine, to.claim, mapping)?;
        Ok(order)
    }
}
