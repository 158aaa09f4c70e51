//! Pages of 64 KiB and 16 MiB that can be had at any time: memory in runs of them.

use backend_ppc64::hash::calls::TableCall;
use backend_ppc64::hash::fault::{Found, State};
use backend_ppc64::hash::place::{Segment, VRMA};
use backend_ppc64::hash::table::GROUP;
use backend_ppc64::hash::words::{ABSENT, LARGE_PAGE, MEDIUM_PAGE, ORDERS, PageSize, SMALL_PAGE};
use backend_ppc64::hash::{Hashed, MayBeHashed, Processor};
use conformance::cases::Case;
use conformance::rig::Bench;
use conformance::store::Heap;
use conformance::verdict::{Run, Stop, check};
use hv_core::addr::{Gfn, GfnRange, Gpa, Order};
use hv_core::host::HugePolicy;
use hv_core::isa::Isa;
use hv_core::mmu::{MemoryConfig, Outcome};
use hv_core::sync::{AtomicBool, Ordering};
use hv_core::vcpu::exit::Access;

use crate::guest::{Answer, Guest, Mode, PARAMETER, RW, SUCCESS, in_runs};

/// Segments by the size of their pages, with what they add to a descriptor, and the sizes of entries in them, with what those
/// add to v and r.
const SIZES: [(u64, Order, u64); 6] = [
    (0, SMALL_PAGE, 0),
    (0, MEDIUM_PAGE, 7 << 12),
    (0, LARGE_PAGE, 0x38 << 12),
    (0x110, MEDIUM_PAGE, 1 << 12),
    (0x110, LARGE_PAGE, 8 << 12),
    (0x100, LARGE_PAGE, 0),
];

pub(super) fn cases<I>() -> [Case<I>; 6]
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    [
        Case { name: "enter-each-size-against-each-granule", rule: "R11", run: |b| each(b, sizes) },
        Case { name: "enter-as-much-as-a-run-is-valid-at-once", rule: "R11", run: |b| each(b, present) },
        Case { name: "fault-by-an-entry-of-a-run-brings-the-run", rule: "R11", run: |b| each(b, brings) },
        Case { name: "zap-of-a-part-of-a-run-leaves-the-guest-its-size", rule: "R8", run: |b| each(b, part) },
        Case { name: "swap-of-a-run-and-back-leaves-the-guest-its-size", rule: "R11", run: swapped },
        Case { name: "race-calls-against-a-run-that-comes-and-goes", rule: "R6", run: |b| each(b, race) },
    ]
}

fn each<I>(b: &Bench<'_, I>, run: fn(&Guest<'_, I>) -> Run) -> Run
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    ORDERS.into_iter().try_for_each(|granule| in_runs(b, granule, run))
}

/// Asks for an entry of this form, for the page of that size at `gfn`, found by the hash of its first address.
fn enter<I>(g: &Guest<'_, I>, (segment, actual, size): (u64, Order, u64), gfn: u64) -> Result<Answer, Stop>
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    let segment = Segment::new(VRMA | segment).ok_or(Stop::Fail("no such segment"))?;
    let place = segment.place(gfn << 12, g.table.parts().groups());
    let large = if actual == SMALL_PAGE { 0 } else { 4 };
    let (v, r) = (place.v | large, gfn << 12 | size | RW);
    check(PageSize::of(v, r).is_some_and(|size| size.actual == actual), "the case asks for another size")?;
    Ok(g.call(TableCall::Enter, &[0, place.group * GROUP, v, r]))
}

/// The guest's granule, and the form of entry by which it has as much in a segment of 4 KiB pages.
fn all_of<I: Isa>(g: &Guest<'_, I>) -> Result<(Order, (u64, Order, u64)), Stop> {
    let granule = g.memory.space().host.granule();
    let form = SIZES.into_iter().find(|(_, actual, _)| *actual == granule);
    Ok((granule, form.ok_or(Stop::Fail("no entry has that size"))?))
}

/// The guest, by an entry for `gfn`, stores to its first page.
fn store<I>(g: &Guest<'_, I>, gfn: u64) -> Result<Outcome, Stop>
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    match g.missed(gfn, Access::Write, 0x4200_0000, State::Privileged) {
        Found::Again => Ok(Outcome::Mapped),
        found => g.fault(found),
    }
}

crate::on_guest! {
fn sizes(g) {
    let granule = g.memory.space().host.granule();
    for (n, form) in SIZES.into_iter().enumerate() {
        let (digest, free) = (g.digest(), g.b.free());
        let gfn = if form.1 == LARGE_PAGE { 0 } else { (n as u64 + 1) * MEDIUM_PAGE.pages() };
        let done = enter(g, form, gfn)?;
        if form.1 > granule {
            done.is(PARAMETER, "R11: a page was promised that is larger than the granule")?;
            check(g.digest() == digest, "a refusal changed the table")?;
        } else {
            done.is(SUCCESS, "a page was refused that the granule has")?;
            let words = g.words(done.r[0])?;
            check(words.v & ABSENT != 0 && words.order() == form.1 && words.gfn() == Gfn(gfn), "another entry was put")?;
        }
        check(g.b.free() == free && g.memory.stats().resident == 0, "H_ENTER took frames")?;
    }
    Ok(())
}

fn present(g) {
    let (granule, form) = all_of(g)?;
    let first = granule.pages();
    g.touch(first + granule.pages() / 2)?;
    let done = enter(g, form, first)?;
    done.is(SUCCESS, "all of a run was refused")?;
    let words = g.words(done.r[0])?;
    check(words.is_valid() && words.order() == granule, "not valid at once, or not all of it")?;
    let (head, tail) = (g.leaf(first), g.leaf(first + granule.pages() - 1));
    let apart = head.zip(tail).map(|(head, tail)| tail.pfn.0 - head.pfn.0);
    check(apart == Some(granule.pages() - 1), "other frames than those of the run")
}

fn brings(g) {
    let (granule, form) = all_of(g)?;
    let done = enter(g, form, granule.pages())?;
    done.is(SUCCESS, "all of a run was refused")?;
    check(store(g, granule.pages())? == Outcome::Mapped, "a store was not answered")?;
    check(g.words(done.r[0])?.is_valid(), "the entry of a run that is there is not valid")?;
    check(g.memory.stats().resident == granule.pages(), "more or less than a run came")
}

fn part(g) {
    let (granule, form) = all_of(g)?;
    let last = 2 * granule.pages() - 1;
    g.touch(last)?;
    let index = enter(g, form, granule.pages())?.r[0];
    let page = GfnRange::new(Gfn(last), 1).ok_or(Stop::Fail("no range"))?;
    g.memory.discard(g.b.cpu, g.b.m, page);
    check(!g.words(index)?.is_valid(), "R18: an entry that reaches the page was not found")?;
    let mut word = [1; 8];
    check(g.memory.read(g.b.cpu, g.b.m, Gpa(last << 12), &mut word).is_ok(), "RAM cannot be read")?;
    check(word == [0; 8], "what was given back is not zero")?;
    check(store(g, granule.pages())? == Outcome::Mapped, "the guest's page cannot be had any more")?;
    check(g.words(index)?.is_valid() && g.words(index)?.order() == granule, "R11: it has another size")
}

fn race(g) {
    let (granule, form) = all_of(g)?;
    let range = GfnRange::new(Gfn(0), granule.pages()).ok_or(Stop::Fail("no range"))?;
    let (done, mut run) = (AtomicBool::new(false), Ok(()));
    let rounds = if granule == LARGE_PAGE { 4 } else { 100 };
    let there = |cpu: &hv_core::epoch::Cpu| {
        for _ in 0..rounds {
            g.memory.discard(cpu, g.b.m, range);
            let _ = g.memory.write(cpu, g.b.m, Gpa(0), &[1; 8]);
        }
        done.store(true, Ordering::Release);
    };
    let storm = || {
        let mut n = 0;
        while !done.load(Ordering::Acquire) || n < 20 {
            let entered = enter(g, form, 0)?;
            entered.is(SUCCESS, "H_ENTER was refused")?;
            check(store(g, 0)? != Outcome::NoSlot, "R11: a page of the granule cannot be had")?;
            g.call(TableCall::Remove, &[0, entered.r[0], 0]).is(SUCCESS, "the guest's entry is not there")?;
            n += 1;
        }
        Ok(())
    };
    if !g.b.rig.both(&there, &mut |_| run = storm()) {
        return Err(Stop::Skip("there is one CPU only"));
    }
    run
}
}

/// With a store, which a guest's memory of the other cases has not.
fn swapped<I>(b: &Bench<'_, I>) -> Run
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    for granule in [MEDIUM_PAGE, LARGE_PAGE] {
        let store_of_pages = Heap::new(b, granule.pages() as usize)?;
        let pages = 2 * granule.pages();
        let config = MemoryConfig { granule, huge: HugePolicy::Never, ..MemoryConfig::from(pages << 12) };
        b.with_config(config.swap(store_of_pages.clone()), |memory| {
            let table = memory.stage2().hashed().ok_or(Stop::Skip("this VM's table is not hashed"))?;
            let g = &Guest { b, memory, table, mode: Mode::Virtual };
            let (_, form) = all_of(g)?;
            g.touch(3)?;
            let index = enter(g, form, 0)?.r[0];
            check(g.words(index)?.is_valid(), "not valid at once")?;
            check(memory.reclaim(b.cpu, b.m, u64::MAX).freed == granule.pages(), "the run did not go")?;
            check(!g.words(index)?.is_valid() && memory.stats().resident == 0, "R8: an entry outlived its page")?;
            check(store(g, 0)? == Outcome::Mapped, "the guest's page cannot be had any more")?;
            check(g.words(index)?.is_valid() && g.words(index)?.order() == granule, "R11: it has another size")?;
            check(memory.stats().resident == granule.pages() && store_of_pages.kept() == 0, "a run came back in part")
        })?;
    }
    Ok(())
}
