//! The invalidation protocol, step by step, on this machine's second stage.

use hv_core::addr::{Gfn, GfnRange, Hvn, HvnRange, Order};
use hv_core::host::{Backing, HugePolicy, Populate, Region, Regions};
use hv_core::isa::{Isa, Stage2, Unmapped};
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::Space;
use hv_core::mmu::flush::{FlushBatch, Scope};
use hv_core::mmu::zap::invalidate;
use hv_core::radix::format::{Prot, Pte};

use super::{Case, case};
use crate::rig::{Bench, FIRST};
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 6] {
    [
        case!("notifier-open-bracket-refuses", "R6", open_bracket),
        case!("notifier-closed-bracket-refuses-older-samples", "R6", closed_bracket),
        case!("notifier-other-pages-go-on", "R7", other_pages),
        case!("notifier-zap-finds-every-window", "R8", every_window),
        case!("notifier-begin-empties-stage-2", "R8", begin_zaps),
        case!("stage2-unmap-names-what-to-flush", "R9", unmap_flushes),
    ]
}

const BASE: Hvn = Hvn(1 << 20);
const PAGE: Gfn = Gfn(20);

/// A space with two windows onto the same host pages.
struct World<'a, I: Isa> {
    b: &'a Bench<'a, I>,
    space: Space<I>,
}

impl<I: Isa> World<'_, I> {
    fn with(b: &Bench<'_, I>, with: impl FnOnce(&World<'_, I>) -> Run) -> Run {
        let slot = |gfn| {
            let gfns = GfnRange::new(Gfn(gfn), 64).ok_or(Stop::Fail("no range"))?;
            Slot::new(gfns, BASE, Prot::all()).map_err(|_| Stop::Fail("no slot"))
        };
        let mut regions = Regions::default();
        let pages = HvnRange::new(BASE, 64).ok_or(Stop::Fail("no range"))?;
        let region = Region::new(pages, Backing::Anon, HugePolicy::Never).ok_or(Stop::Fail("no region"))?;
        check(regions.add(region).is_ok(), "a region was refused")?;
        let space = Space::new(b.cpu, b.m, FIRST, regions, &[slot(0)?, slot(64)?]);
        let space = space.map_err(|_| Stop::Fail("no memory, or two windows onto the same pages were refused"))?;
        let world = World { b, space };
        let run = with(&world);
        world.space.destroy(b.cpu, b.m);
        run
    }

    fn hvn(gfn: Gfn) -> Hvn {
        Hvn(BASE.0 + gfn.0 % 64)
    }

    /// The second half of a fault on `gfn` that sampled `seq`. True if it published.
    fn publish(&self, seq: hv_core::notifier::InvalidateSeq, gfn: Gfn) -> Result<bool, Stop> {
        let gpa = gfn.addr().ok_or(Stop::Fail("no address"))?;
        let Space { stage2, host, .. } = &self.space;
        let claim = self.b.rig.claim(stage2, gpa, Order::PAGE);
        let there = host.populate(self.b.cpu, self.b.m, Self::hvn(gfn));
        check(matches!(there, Populate::Present(_) | Populate::Fresh(_)), "no page in the host table")?;
        let to = self.space.target(self.b.m, claim, Prot::WRITE);
        let page = HvnRange::new(Self::hvn(gfn), 1).ok_or(Stop::Fail("no range"))?;
        let slot = self.space.slots.find(&self.b.m.epoch().enter(self.b.cpu), gfn).ok_or(Stop::Fail("no slot"))?;
        let section = self.space.mmu.enter(self.b.cpu, self.b.m.epoch());
        let Ok(fresh) = section.revalidate(seq, page) else { return Ok(false) };
        let Ok(primary) = fresh.primary(self.b.m, host, Self::hvn(gfn)) else { return Ok(false) };
        let done = fresh.install(&to, &slot, gfn, primary);
        check(done == Ok(Order::PAGE), "the second stage refused a page").map(|()| true)
    }

    fn mapped(&self, gfn: Gfn) -> bool {
        matches!(self.space.stage2.lookup(self.b.cpu, self.b.m, gfn), Pte::Leaf(_))
    }

    fn invalidate<R>(&self, pages: u64, change: impl FnOnce() -> R) -> Result<R, Stop> {
        let range = HvnRange::new(Self::hvn(PAGE), pages).ok_or(Stop::Fail("no range"))?;
        Ok(invalidate(self.b.cpu, self.b.m, &self.space, range, |_| change()))
    }
}

fn open_bracket<I: Isa>(b: &Bench<'_, I>) -> Run {
    World::with(b, |w| {
        let published = w.invalidate(1, || w.publish(w.space.mmu.sample(), PAGE))??;
        check(!published && !w.mapped(PAGE), "a page was published inside the bracket that takes it away")?;
        check(w.publish(w.space.mmu.sample(), PAGE)?, "a page is refused after the bracket closed")
    })
}

fn closed_bracket<I: Isa>(b: &Bench<'_, I>) -> Run {
    World::with(b, |w| {
        let seq = w.space.mmu.sample();
        w.invalidate(1, || ())?;
        check(!w.publish(seq, PAGE)?, "a page read before an invalidation was published after it")
    })
}

fn other_pages<I: Isa>(b: &Bench<'_, I>) -> Run {
    World::with(b, |w| {
        let published = w.invalidate(2, || w.publish(w.space.mmu.sample(), Gfn(PAGE.0 + 2)))??;
        check(published, "a bracket stops pages outside its range")
    })
}

fn every_window<I: Isa>(b: &Bench<'_, I>) -> Run {
    World::with(b, |w| {
        let twin = Gfn(PAGE.0 + 64);
        check(w.publish(w.space.mmu.sample(), PAGE)? && w.publish(w.space.mmu.sample(), twin)?, "a page was refused")?;
        w.invalidate(1, || ())?;
        check(!w.mapped(PAGE) && !w.mapped(twin), "a window onto the page was not zapped")
    })
}

fn begin_zaps<I: Isa>(b: &Bench<'_, I>) -> Run {
    World::with(b, |w| {
        for n in 0..4 {
            check(w.publish(w.space.mmu.sample(), Gfn(PAGE.0 + n))?, "a page was refused")?;
        }
        let during = w.invalidate(3, || (0..4).map(|n| w.mapped(Gfn(PAGE.0 + n))).collect::<heapless::Vec<_, 4>>())?;
        check(during.iter().eq(&[false, false, false, true]), "begin left a translation, or took one too many")
    })
}

fn unmap_flushes<I: Isa>(b: &Bench<'_, I>) -> Run {
    World::with(b, |w| {
        check(w.publish(w.space.mmu.sample(), PAGE)?, "a page was refused")?;
        let range = GfnRange::new(PAGE, 1).ok_or(Stop::Fail("no range"))?;
        let (mut first, mut second) = (FlushBatch::new(FIRST), FlushBatch::new(FIRST));
        let ends = [&mut first, &mut second].map(|batch| w.space.stage2.unmap(b.cpu, b.m, range, batch, None));
        check(ends == [Unmapped::All; 2], "a batch has no room for one page's tables")?;
        let named = match first.scope() {
            Scope::Nothing => false,
            Scope::Ranges(ranges) => ranges.iter().any(|r| r.gfns.covers(&range)),
            Scope::Vm => true,
        };
        let idle = second.scope() == Scope::Nothing;
        b.m.flush(first).release(b.cpu, b.m);
        b.m.flush(second).release(b.cpu, b.m);
        check(named, "a removed translation is not named for the flush")?;
        check(idle, "nothing was removed, and yet a flush is asked for")
    })
}
