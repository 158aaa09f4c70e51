//! Memory that the guest reaches with its translation off and that has no entry: what the first run has left out, or the guest
//! has removed. Its entry is put when it is missed.

use backend_ppc64::hash::calls::TableCall;
use backend_ppc64::hash::fault::{Found, Missed, State};
use backend_ppc64::hash::place::{Segment, VRMA, vrma};
use backend_ppc64::hash::table::GROUP;
use backend_ppc64::hash::words::{BOLTED, LARGE_PAGE, MEDIUM_PAGE, SECONDARY, SMALL_PAGE};
use backend_ppc64::hash::{Hashed, MayBeHashed, Processor};
use conformance::cases::Case;
use conformance::verdict::{Run, Stop, check};
use hv_core::addr::Order;
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::mmu::Outcome;
use hv_core::vcpu::exit::Access;

use crate::guest::{EXACT, Guest, PAGE, RW, SUCCESS, in_runs};
use crate::{cases, on_guest};

cases! { 2:
    "real-mode-miss-without-an-entry-gets-one", "R4", Never, small;
    "real-mode-miss-without-room-changes-nothing", "P8", Never, full;
}

/// Those whose memory is not in pages of 4 KiB.
pub(super) fn larger<I>() -> [Case<I>; 2]
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    [
        Case {
            name: "real-mode-miss-in-an-area-of-64-kib-pages",
            rule: "R11",
            run: |b| in_runs(b, MEDIUM_PAGE, medium),
        },
        Case { name: "real-mode-miss-in-an-area-of-16-mib-pages", rule: "R11", run: |b| in_runs(b, LARGE_PAGE, large) },
    ]
}

/// A store with translation off, in an area whose segment and pages are these: it finds no entry, gets one, and is answered by
/// it. Another one before that gets the same.
fn missed<I>(g: &Guest<'_, I>, descriptor: u64, page: Order) -> Run
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    // In the second of the area's pages, beyond its beginning if it has more than 4 KiB.
    let at = page.pages() | PAGE & (page.pages() - 1);
    let access = Missed {
        address: at << 12,
        segment: descriptor,
        status: 0x4200_0000,
        access: Access::Write,
        state: State::Real,
        keys: 0,
    };
    check(g.missed_so(&access) == Found::Reflect(0x4200_0000), "an entry is there that nobody put")?;
    let segment = Segment::new(descriptor).ok_or(Stop::Fail("no such segment"))?;
    let put = |at: u64| g.table.put_missed(g.b.m, &g.b.m.epoch().enter(g.b.cpu), &segment, at << 12);
    let claim = put(at).ok_or(Stop::Fail("a table that is empty has no room"))?;
    check(put(page.pages()) == Some(claim), "a page has two entries")?;
    let words = g.words(claim.index())?;
    check(words.order() == page && words.gfn().0 == page.pages(), "an entry of another page, or of another size")?;
    check(
        words.v & BOLTED != 0 && !words.is_valid(),
        "an entry that the guest throws out, or valid before it is claimed",
    )?;
    let found = g.missed_so(&access);
    check(g.fault(found)? == Outcome::Mapped && g.words(claim.index())?.is_valid(), "the access is not answered by it")
}

on_guest! {
fn small(g) {
    missed(g, VRMA, SMALL_PAGE)
}

fn medium(g) {
    missed(g, vrma(0x11), MEDIUM_PAGE)
}

fn large(g) {
    missed(g, vrma(0x10), LARGE_PAGE)
}

fn full(g) {
    let (first, put) = (g.place(PAGE)?, || g.table.put_missed(g.b.m, &g.b.m.epoch().enter(g.b.cpu), &g.segment()?, PAGE << 12).ok_or(Stop::Fail("no room")));
    let fill = |index: u64, v: u64| {
        // Of another page, whose address lies so far off that it hashes here too.
        let done = g.call(TableCall::Enter, &[EXACT, index, v ^ 1 << 20, PAGE << 12 | RW]);
        done.is(SUCCESS, "H_ENTER was refused")
    };
    (0..GROUP).try_for_each(|n| fill(first.group * GROUP + n, first.v))?;
    let claim = put()?;
    check(g.words(claim.index())?.v & SECONDARY != 0, "it is not in the group of the second hash")?;
    g.call(TableCall::Remove, &[0, claim.index(), 0]).is(SUCCESS, "H_REMOVE was refused")?;
    let second = first.secondary(g.table.parts().groups());
    (0..GROUP).try_for_each(|n| fill(second.group * GROUP + n, second.v))?;
    let before = g.digest();
    check(put().is_err() && g.digest() == before, "an entry was put where there is no room")
}
}
