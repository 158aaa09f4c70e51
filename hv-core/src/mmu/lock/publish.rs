//! Inside a commit section: from the proof to a present leaf. A child of `lock`, so that nothing else can make a
//! [`Mapping`].

use core::marker::PhantomData;

use super::{BATCH, Fresh, Mapping, Primary, PrimaryTested, Retry, Target};
use crate::addr::{Gfn, GfnRange, Hvn, HvnRange, Order, Pfn};
use crate::host::{HostSpace, Peek};
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
        match host.peek(m, self.walk, page) {
            Peek::Page(now) if self.pages.contains(page) => {
                Ok(Primary { page, pfn: now.pfn, order: now.order, prot: now.prot, section: PhantomData })
            }
            Peek::Page(_) | Peek::Absent | Peek::Retry | Peek::OutOfReach => Err(Retry),
        }
    }

    /// Publishes the translation of `gfn`, seen through `slot`, as large as all bounds allow. Returns its size.
    pub fn install<I: Isa>(
        self,
        to: &Target<'_, I>,
        slot: &Slot,
        gfn: Gfn,
        primary: Primary<'_>,
    ) -> Result<Order, MapError> {
        self.put(to, slot, gfn, primary)
    }

    /// Publishes what the host table has behind `gfns`, as many translations as one section may. Returns the guest frame
    /// to go on from: the end, or earlier at a page that is not there.
    pub fn install_each<I: Isa>(
        self,
        to: &Target<'_, I>,
        host: &HostSpace<I>,
        slot: &Slot,
        gfns: GfnRange,
    ) -> Result<Gfn, MapError> {
        let mut gfn = gfns.start();
        for _ in 0..BATCH {
            let Some(hvn) = slot.hvn(gfn).filter(|_| gfn < gfns.end()) else { break };
            let Ok(primary) = self.primary(to.machine, host, hvn) else { break };
            let order = self.put(to, slot, gfn, primary)?;
            let Some(next) = gfn.align_down(order).checked_add(order.pages()) else { break };
            gfn = next.min(gfns.end());
        }
        Ok(gfn)
    }

    fn put<I: Isa>(&self, to: &Target<'_, I>, slot: &Slot, gfn: Gfn, p: Primary<'_>) -> Result<Order, MapError> {
        let prot = slot.prot().intersection(p.prot);
        if slot.hvn(gfn) != Some(p.page) || !prot.contains(to.need) {
            return Err(MapError::Retry);
        }
        let rule = to.stage2.size_rule(&to.claim);
        let order =
            order(&Bounds { gfn, hvn: p.page, pfn: p.pfn, host: p.order, slot, rule }).map_err(MapError::Unfit)?;
        // A bracket may be open over the rest of the block, of which nothing has been tested yet.
        let block = HvnRange::block(p.page, order).ok_or(MapError::Retry)?;
        if !self.pages.covers(&block) && self.notifier.covers_any(&block) {
            return Err(MapError::Retry);
        }
        let mapping = Mapping { gfn: gfn.align_down(order), pfn: p.pfn.align_down(order), order, prot };
        to.stage2.map(self.walk, to.machine, to.claim, mapping)?;
        Ok(order)
    }
}
