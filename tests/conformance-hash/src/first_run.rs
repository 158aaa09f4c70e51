//! The first run: what must be ready before a vCPU executes, and every way in which it cannot be.

use backend_ppc64::hash::calls::TableCall;
use backend_ppc64::hash::first_run::{Failed, NotYet, Offset, Registers, Wants};
use backend_ppc64::hash::place::{Segment, vrma};
use backend_ppc64::hash::rmo::Rmo;
use backend_ppc64::hash::table::GROUP;
use backend_ppc64::hash::words::{ABSENT, BOLTED, MEDIUM_PAGE};
use backend_ppc64::hash::{Hashed, MayBeHashed, Processor};
use conformance::cases::Case;
use conformance::rig::Bench;
use conformance::verdict::{Run, Stop, check};
use hv_core::addr::{Gfn, GfnRange, Hvn, Order, Pfn};
use hv_core::epoch::Cpu;
use hv_core::host::{Backing, HugePolicy};
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::ready::{Left, NotNow, Permit, State};
use hv_core::mmu::zap::rewindow;
use hv_core::mmu::{MemoryConfig, Outcome};
use hv_core::radix::format::Prot;
use hv_core::sync::{AtomicBool, Ordering, spin_loop};
use hv_core::vcpu::exit::Access;

use super::enter::show;
use crate::guest::{EXACT, Guest, Mode, PAGE, PAGES, PARAMETER, RW, SUCCESS};
use crate::{cases, on_guest};

cases! { 11:
    "first-run-puts-the-area-whole-and-resolves-nothing", "R19", Never, whole;
    "first-run-says-the-area-in-lpcr-where-that-has-it", "P2", Never, in_lpcr;
    "first-run-of-64k-pages", "P2", Always, medium;
    "first-run-without-a-slot-at-0", "R26", Never, no_slot;
    "first-run-of-a-slot-that-is-not-to-run-from", "R26", Never, invalid;
    "first-run-of-a-slot-with-nothing-behind", "R26", Never, no_region;
    "first-run-of-smaller-pages-than-the-areas", "R11", Never, page_size;
    "first-run-where-an-offset-is-needed", "R26", Never, no_rmo;
    "first-run-that-fails-half-way-leaves-nothing", "R19", Never, half_way;
    "first-run-after-the-table-was-drained", "R20", Never, drained;
    "first-run-slot-removed-under-a-real-mode-reader", "R17", Never, slot_removed;
}

/// A VRMA of small pages.
const SMALL: Wants = Wants { offset: Offset::Never, rmo: None, page: Order::PAGE };
/// 32 MiB, the smallest offset there is.
const RMO: Rmo = Rmo { first: Pfn(0x4_0000), pages: 0x2000 };

/// The cases on memory of another kind, or of two CPUs.
pub(super) fn others<I>() -> [Case<I>; 4]
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    [
        Case { name: "first-run-of-a-device", rule: "R26", run: |b| fixed(b, 1024, device) },
        Case { name: "first-run-by-an-offset", rule: "P2", run: |b| fixed(b, RMO.pages, by_offset) },
        Case { name: "first-run-by-an-offset-of-no-encoding", rule: "R26", run: |b| fixed(b, RMO.pages, no_encoding) },
        Case { name: "first-run-of-two-cpus-at-once", rule: "R19", run: at_once },
    ]
}

/// Runs a case on frames that are not the allocator's.
fn fixed<I>(b: &Bench<'_, I>, pages: u64, run: fn(&Guest<'_, I>) -> Run) -> Run
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    let config = MemoryConfig { backing: Backing::Fixed { first: RMO.first }, ..MemoryConfig::from(pages << 12) };
    b.with_config(config, |memory| {
        let table = memory.stage2().hashed().ok_or(Stop::Skip("this VM's table is not hashed"))?;
        run(&Guest { b, memory, table, mode: Mode::Virtual })
    })
}

impl<I> Guest<'_, I>
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    fn begin(&self, cpu: &Cpu, wants: Wants) -> Result<Permit, NotYet> {
        self.table.begin(cpu, self.b.m, self.memory, &wants)
    }

    /// It fails so, and leaves nothing.
    fn fails(&self, wants: Wants, why: Failed) -> Run {
        let before = self.digest();
        check(self.begin(self.b.cpu, wants).err() == Some(NotYet::Failed(why)), "another error, or none")?;
        check(self.table.first_run().ready().state() == State::Empty, "N5: a first run failed, and is not undone")?;
        check(self.digest() == before, "N5: a first run failed, and left entries")
    }

    /// How many entries the area has, and that each is the page's own, and not for the guest to replace.
    fn area(&self) -> Result<u64, Stop> {
        let groups = self.table.parts().groups();
        let mut found = 0;
        for index in 0..groups * GROUP {
            let words = self.words(index)?;
            if words.is_free() {
                continue;
            }
            let place = self.place(words.gfn().0)?;
            check(
                place.is(words.v, words.view) && index / GROUP == place.group,
                "an entry is not where it is looked for",
            )?;
            check(words.v & BOLTED != 0, "an entry that the guest may replace")?;
            found += 1;
        }
        Ok(found)
    }
}

fn wanted(permit: Result<Permit, NotYet>) -> Result<Permit, Stop> {
    permit.map_err(|_| Stop::Fail("a first run was refused"))
}

on_guest! {
fn whole(g) {
    let before = g.memory.stats().resident;
    check(g.table.first_run().ready().run().is_err(), "R19: somebody runs before anything is ready")?;
    let permit = wanted(g.begin(g.b.cpu, SMALL))?;
    check(g.area()? == PAGES.min(g.table.parts().groups()), "not all of the area is there, or more")?;
    check(g.memory.stats().resident == before, "pages were resolved before they are used")?;
    check(g.table.first_run().registers(&permit) == Registers::default(), "LPCR has no such bits")?;
    // And with its translation off the guest reaches it.
    let found = g.missed(PAGE, Access::Write, 0x4200_0000, backend_ppc64::hash::fault::State::Real);
    check(g.fault(found)? == Outcome::Mapped && g.leaf(PAGE).is_some(), "an access with translation off is not answered")?;
    drop(wanted(g.begin(g.b.cpu, SMALL))?);
    check(g.area()? == PAGES.min(g.table.parts().groups()), "a second run put entries again")
}

fn in_lpcr(g) {
    let permit = wanted(g.begin(g.b.cpu, Wants { offset: Offset::Perhaps, ..SMALL }))?;
    check(g.table.first_run().registers(&permit) == Registers { lpcr: 1 << 63, rmor: 0 }, "VPM0 alone is for 4 KiB")
}

fn medium(g) {
    // Huge blocks: memory that comes page by page promises no 64 KiB before it is there.
    g.touch(0)?;
    g.touch(PAGES / 2)?;
    let permit = wanted(g.begin(g.b.cpu, Wants { offset: Offset::Perhaps, rmo: None, page: MEDIUM_PAGE }))?;
    let lpcr = 1 << 63 | 0x11 << 47;
    check(g.table.first_run().registers(&permit) == Registers { lpcr, rmor: 0 }, "L and LP of 64 KiB")?;
    let segment = Segment::new(vrma(0x11)).ok_or(Stop::Fail("no segment of 64 KiB pages"))?;
    let walk = g.b.m.epoch().enter(g.b.cpu);
    let entries = (0..PAGES / 16).map(|n| g.table.entry_for(g.b.m, &walk, &segment, n << 16));
    let order = |entry: Option<backend_ppc64::hash::Claim>| entry.map(|claim| claim.order());
    check(entries.map(order).all(|order| order == Some(MEDIUM_PAGE)), "not all of the area has entries of 64 KiB")
}

fn no_slot(g) {
    check(rewindow(g.b.cpu, g.b.m, g.memory.space(), &[]).is_ok(), "no window at all was refused")?;
    g.fails(SMALL, Failed::NoSlot)?;
    let base = Hvn(1 << 32);
    let above = GfnRange::new(Gfn(16), PAGES - 16).and_then(|gfns| Slot::new(gfns, base, Prot::all()).ok());
    let above = above.ok_or(Stop::Fail("no slot"))?;
    check(rewindow(g.b.cpu, g.b.m, g.memory.space(), &[above]).is_ok(), "a window was refused")?;
    g.fails(SMALL, Failed::NoSlot)
}

fn invalid(g) {
    for prot in [Prot::READ | Prot::EXEC, Prot::READ | Prot::WRITE, Prot::empty()] {
        show(g.b, g.memory, PAGES, prot)?;
        g.fails(SMALL, Failed::SlotInvalid)?;
    }
    show(g.b, g.memory, PAGES, Prot::all())?;
    wanted(g.begin(g.b.cpu, SMALL)).map(drop)
}

fn no_region(g) {
    let nowhere = GfnRange::new(Gfn(0), PAGES).and_then(|gfns| Slot::new(gfns, Hvn(1 << 20), Prot::all()).ok());
    let nowhere = nowhere.ok_or(Stop::Fail("no slot"))?;
    check(rewindow(g.b.cpu, g.b.m, g.memory.space(), &[nowhere]).is_ok(), "a window was refused")?;
    g.fails(SMALL, Failed::NoRegion)
}

fn page_size(g) {
    // Before it is known what will be there it may be as large as the granule, and no larger.
    let larger = Order::new(g.table.granule().get() + 1).ok_or(Stop::Fail("no order"))?;
    g.fails(Wants { page: larger, ..SMALL }, Failed::PageSize)?;
    g.touch(0)?;
    g.fails(Wants { page: MEDIUM_PAGE, ..SMALL }, Failed::PageSize)?;
    // Askew in the host space.
    let gfns = GfnRange::new(Gfn(0), PAGES - 16).ok_or(Stop::Fail("no range"))?;
    let base = g.memory.space().slots.find(&g.b.m.epoch().enter(g.b.cpu), Gfn(1)).and_then(|slot| slot.hvn(Gfn(1)));
    let slot = base.and_then(|base| Slot::new(gfns, base, Prot::all()).ok()).ok_or(Stop::Fail("no slot"))?;
    check(rewindow(g.b.cpu, g.b.m, g.memory.space(), &[slot]).is_ok(), "a window was refused")?;
    g.fails(Wants { page: MEDIUM_PAGE, ..SMALL }, Failed::PageSize)
}

fn no_rmo(g) {
    g.fails(Wants { offset: Offset::Always, ..SMALL }, Failed::NoRmo)?;
    // Memory that comes and goes is none.
    g.fails(Wants { offset: Offset::Always, rmo: Some(RMO), ..SMALL }, Failed::Device)
}

fn half_way(g) {
    // Another address has the place of a page in the middle.
    let index = g.slot(PAGES / 2)? + GROUP - 1;
    let v = g.place(PAGES / 2)?.v ^ 1 << 20;
    let put = g.call(TableCall::Enter, &[EXACT, index, v, PAGE << 12 | RW]);
    put.is(SUCCESS, "H_ENTER was refused")?;
    g.fails(SMALL, Failed::Table)?;
    g.call(TableCall::Remove, &[0, index, 0]).is(SUCCESS, "the entry is not there")?;
    let permit = wanted(g.begin(g.b.cpu, SMALL))?;
    check(g.area()? == PAGES.min(g.table.parts().groups()), "the second try is not whole")?;
    drop(permit);
    Ok(())
}

fn drained(g) {
    let ready = g.table.first_run().ready();
    let permit = wanted(g.begin(g.b.cpu, SMALL))?;
    check(ready.drain().is_none(), "R20: a vCPU is inside")?;
    check(g.begin(g.b.cpu, SMALL).err() == Some(NotYet::Wait), "a vCPU got in while the table is drained")?;
    let Left::Last(drained) = permit.leave() else { return Err(Stop::Fail("nobody is told that all have left")) };
    check(g.begin(g.b.cpu, SMALL).err() == Some(NotYet::Wait), "a vCPU got in while the table is replaced")?;
    drop(drained);
    check(ready.run().is_err_and(|why| why == NotNow(State::Empty)), "R19: ready without a run that made it so")?;
    drop(wanted(g.begin(g.b.cpu, SMALL))?);
    check(g.area()? == PAGES.min(g.table.parts().groups()), "entries are there twice, or not at all")
}

fn slot_removed(g) {
    check(g.memory.log_start(g.b.cpu, g.b.m).is_ok(), "no memory for a log")?;
    drop(wanted(g.begin(g.b.cpu, SMALL))?);
    g.memory.log_harvest(g.b.cpu, g.b.m, &mut |_| {});
    let found = g.missed(PAGE, Access::Write, 0x4200_0000, backend_ppc64::hash::fault::State::Real);
    check(g.fault(found)? == Outcome::Mapped, "a store was not answered")?;
    let (reading, removed) = (AtomicBool::new(false), AtomicBool::new(false));
    let there = |cpu: &Cpu| {
        while !reading.load(Ordering::Acquire) {
            spin_loop();
        }
        let _ = rewindow(cpu, g.b.m, g.memory.space(), &[]);
        removed.store(true, Ordering::Release);
    };
    let mut run = Ok(());
    let here = &mut |cpu: &Cpu| {
        let real = hv_core::context::Atomic::on(cpu);
        let walk = real.enter(g.b.m.epoch());
        let slot = g.memory.space().slots.find(&walk, Gfn(PAGE));
        reading.store(true, Ordering::Release);
        for _ in 0..2000 {
            let now = g.memory.space().slots.find(&walk, Gfn(PAGE));
            let whole = now.is_none() || now == slot;
            if run.is_ok() {
                run = check(whole && !removed.load(Ordering::Acquire), "R17: the set was given up under a reader");
            }
        }
        drop(walk);
        while !removed.load(Ordering::Acquire) {
            spin_loop();
        }
    };
    let both = g.b.rig.both(&there, here);
    let page = GfnRange::new(Gfn(PAGE), 1).ok_or(Stop::Fail("no range"))?;
    let translated = g.leaf(PAGE).is_some();
    let entered = g.enter(PAGE, 0, RW);
    show_again(g)?;
    let (logged, resident) = (g.memory.logged(g.b.cpu, g.b.m, page), g.memory.stats().resident);
    g.memory.log_stop(g.b.cpu, g.b.m);
    if !both {
        return Err(Stop::Skip("there is one CPU only"));
    }
    run?;
    check(!translated, "R8: an entry translates through a slot that was removed")?;
    entered?.is(PARAMETER, "H_ENTER of a page in no slot")?;
    check(logged == 1, "R16: a page that was stored to is not noted")?;
    check(resident == 1, "the page went with its window, or twice")
}

fn device(g) {
    g.fails(SMALL, Failed::Device)?;
    g.fails(Wants { offset: Offset::Perhaps, ..SMALL }, Failed::Device)?;
    // Another's offset.
    let rmo = Some(Rmo { first: Pfn(RMO.first.0 + RMO.pages), ..RMO });
    g.fails(Wants { offset: Offset::Perhaps, rmo, ..SMALL }, Failed::Device)?;
    // More than the slot shows.
    g.fails(Wants { offset: Offset::Perhaps, rmo: Some(RMO), ..SMALL }, Failed::Device)
}

fn by_offset(g) {
    for offset in [Offset::Perhaps, Offset::Always] {
        let permit = wanted(g.begin(g.b.cpu, Wants { offset, rmo: Some(RMO), page: Order::PAGE }))?;
        let registers = Registers { lpcr: 8 << 26, rmor: RMO.first.0 << 12 };
        check(g.table.first_run().registers(&permit) == registers, "32 MiB from there on")?;
        check(g.area()? == 0, "an offset needs no entries")?;
        drop(permit);
        drop(g.table.first_run().ready().drain());
    }
    Ok(())
}

fn no_encoding(g) {
    for pages in [RMO.pages - 1, RMO.pages / 2, 3] {
        let rmo = Some(Rmo { pages, ..RMO });
        g.fails(Wants { offset: Offset::Perhaps, rmo, page: Order::PAGE }, Failed::NotEncodable)?;
    }
    Ok(())
}
}

/// The RAM is shown again, as it was.
fn show_again<I: Isa>(g: &Guest<'_, I>) -> Run {
    let base = g.memory.space().host.regions().iter().next().map(|region| region.hvns().start());
    let slot = base.zip(GfnRange::new(Gfn(0), PAGES)).and_then(|(base, gfns)| Slot::new(gfns, base, Prot::all()).ok());
    let slot = slot.ok_or(Stop::Fail("no slot"))?;
    check(rewindow(g.b.cpu, g.b.m, g.memory.space(), &[slot]).is_ok(), "a window was refused")
}

fn at_once<I>(b: &Bench<'_, I>) -> Run
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    let config = MemoryConfig { huge: HugePolicy::Never, ..MemoryConfig::from(PAGES << 12) };
    b.with_config(config, |memory| {
        let table = memory.stage2().hashed().ok_or(Stop::Skip("this VM's table is not hashed"))?;
        let g = &Guest { b, memory, table, mode: Mode::Real };
        let (m, segment) = (b.m, g.segment()?);
        // True if the area was whole when this CPU was let in.
        let run = |cpu: &Cpu| {
            loop {
                match table.begin(cpu, m, memory, &SMALL) {
                    Ok(_permit) => {
                        let walk = m.epoch().enter(cpu);
                        return table.entry_for(m, &walk, &segment, (PAGES - 1) << 12).is_some();
                    }
                    Err(NotYet::Wait) => spin_loop(),
                    Err(NotYet::Failed(_)) => return false,
                }
            }
        };
        let (fine, mut here) = (AtomicBool::new(false), false);
        if !b.rig.both(&|cpu| fine.store(run(cpu), Ordering::Release), &mut |cpu| here = run(cpu)) {
            return Err(Stop::Skip("there is one CPU only"));
        }
        check(here && fine.load(Ordering::Acquire), "R19: a vCPU ran before the area was whole")?;
        check(g.area()? == PAGES.min(table.parts().groups()), "two CPUs put entries, or none put all")?;
        check(g.words(g.slot(PAGE)? + GROUP - 1)?.v & ABSENT != 0, "a page was resolved")
    })
}
