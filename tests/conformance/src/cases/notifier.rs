//! The invalidation protocol, step by step, on this machine's second stage.

use hv_core::addr::{Gfn, GfnRange, Hvn, HvnRange, Order, Pfn};
use hv_core::host::Regions;
use hv_core::isa::{Isa, Stage2};
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::Space;
use hv_core::mmu::flush::{FlushBatch, Scope};
use hv_core::mmu::lock::Target;
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

/// A space with two windows onto the same host pages, none of which is there: frames are made-up numbers.
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
        let space = Space::new(b.cpu, b.m, FIRST, Regions::default(), &[slot(0)?, slot(64)?]);
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
        let claim = self.b.rig.claim(&self.space.stage2, gpa);
        let to = Target { stage2: &self.space.stage2, cpu: self.b.cpu, machine: self.b.m, claim };
        let guard = self.space.mmu.lock(self.b.cpu);
        let Ok(fresh) = guard.revalidate(seq, Self::hvn(gfn)) else { return Ok(false) };
        let done = fresh.install::<I>(to, gfn, Pfn(0x1000 + gfn.0 % 64), Order::PAGE, Prot::all());
        check(done.is_ok(), "the second stage refused a page").map(|()| true)
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
        check(w.space.mmu.looks_stale(&seq), "the cheap test misses a closed bracket")?;
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
        w.space.stage2.unmap(b.cpu, b.m, range, &mut first);
        w.space.stage2.unmap(b.cpu, b.m, range, &mut second);
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
