//! H_ENTER that succeeds: valid or absent.

use backend_ppc64::hash::calls::TableCall;
use backend_ppc64::hash::table::GROUP;
use backend_ppc64::hash::words::{ABSENT, C, LOCK, MEDIUM_PAGE, R, SECONDARY, VALID};
use conformance::verdict::{Stop, check};
use hv_core::addr::{Gfn, GfnRange, Gpa, HvnRange};
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::zap::{invalidate, rewindow};
use hv_core::mmu::{GuestMemory, Outcome};
use hv_core::radix::format::Prot;
use hv_core::vcpu::exit::Access;

use crate::guest::{EXACT, FULL, PAGE, PAGES, RW, SUCCESS};
use crate::{cases, on_guest};

cases! { 19:
    "enter-a-present-page-is-valid-at-once", "R6", Never, present;
    "enter-an-untouched-page-is-absent-and-takes-no-frame", "R21", Never, untouched;
    "enter-an-absent-entry-reads-as-valid", "P2", Never, absent_reads_valid;
    "enter-exactly-there", "P2", Never, exact;
    "enter-exactly-where-another-is-is-full", "P2", Never, exact_taken;
    "enter-finds-a-place-in-the-group", "R4", Never, group;
    "enter-a-ninth-of-a-group-is-full", "R4", Never, full;
    "enter-the-guests-states-are-not-the-entrys", "R26", Never, states;
    "enter-reserved-bits-are-dropped", "R26", Never, reserved;
    "enter-r-and-c-are-told-and-not-given-to-hardware", "R15", Never, marks;
    "enter-a-read-only-window-gives-a-read-only-entry", "R11", Never, read_only;
    "enter-a-window-without-access-gives-an-absent-entry", "R11", Never, no_access;
    "enter-under-an-open-bracket-is-absent-and-succeeds", "R6", Never, bracket;
    "enter-64k-on-a-large-leaf", "R11", Always, medium;
    "enter-64k-of-a-4k-segment", "R11", Always, mixed;
    "enter-two-entries-for-one-page", "R18", Never, alias;
    "enter-with-zeros", "R16", Never, zeros;
    "enter-says-secondary-and-is-found-there", "P2", Never, secondary;
    "enter-strong-access-order-is-memory", "P2", Never, strong_order;
}

/// The VM's only window becomes this.
pub(super) fn show<I: hv_core::isa::Isa>(
    b: &conformance::rig::Bench<'_, I>,
    memory: &GuestMemory<I>,
    pages: u64,
    prot: Prot,
) -> conformance::verdict::Run {
    let slot = memory.space().slots.find(&b.m.epoch().enter(b.cpu), Gfn(0)).ok_or(Stop::Fail("no slot"))?;
    let base = slot.hvn(Gfn(0)).ok_or(Stop::Fail("no page"))?;
    let gfns = GfnRange::new(Gfn(0), pages).ok_or(Stop::Fail("no range"))?;
    let new = Slot::new(gfns, base, prot).map_err(|_| Stop::Fail("no slot"))?;
    check(rewindow(b.cpu, b.m, memory.space(), &[new]).is_ok(), "a window was refused")
}

on_guest! {
fn present(g) {
    let index = g.entered(RW)?;
    let leaf = g.leaf(PAGE).ok_or(Stop::Fail("stage 2 has no translation"))?;
    check(leaf.prot == Prot::all() && index / GROUP == g.slot(PAGE)? / GROUP, "it allows less, or is elsewhere")
}

fn untouched(g) {
    let before = g.b.free();
    let done = g.enter(PAGE, 0, RW)?;
    done.is(SUCCESS, "H_ENTER was refused")?;
    let words = g.words(done.r[0])?;
    check(!words.is_valid() && words.v & ABSENT != 0, "an entry for nothing is not absent")?;
    check(g.b.free() == before && g.leaf(PAGE).is_none(), "entering a page took a frame")
}

fn absent_reads_valid(g) {
    let done = g.enter(PAGE, 0, RW)?;
    let (v, r) = g.read(done.r[0])?;
    check(v == g.place(PAGE)?.v | VALID && r == PAGE << 12 | RW, "H_READ tells of the hypervisor's states")
}

fn exact(g) {
    let index = g.slot(PAGE)? + 3;
    let place = g.place(PAGE)?;
    let done = g.call(TableCall::Enter, &[EXACT, index, place.v | VALID, PAGE << 12 | RW]);
    done.is(SUCCESS, "H_ENTER was refused")?;
    check(done.r[0] == index && !g.words(index)?.is_free(), "the entry is elsewhere")
}

fn exact_taken(g) {
    let index = g.entered(RW)?;
    let before = g.digest();
    let done = g.call(TableCall::Enter, &[EXACT, index, g.place(PAGE)?.v | VALID, 6 << 12 | RW]);
    done.is(FULL, "an entry in use was taken")?;
    check(done.r[..4] == [EXACT, index, g.place(PAGE)?.v | VALID, 6 << 12 | RW], "a refusal changed registers")?;
    check(g.digest() == before, "a refusal changed the table")
}

fn group(g) {
    let (first, place) = (g.slot(PAGE)?, g.place(PAGE)?);
    for n in 0..GROUP {
        // Whatever entry of the group is named.
        let done = g.call(TableCall::Enter, &[0, first + (n * 3) % GROUP, place.v, PAGE << 12 | RW]);
        done.is(SUCCESS, "a group with room was called full")?;
        check(done.r[0] == first + n, "another entry than the first free one of the group")?;
    }
    Ok(())
}

fn full(g) {
    let (first, place) = (g.slot(PAGE)?, g.place(PAGE)?);
    for _ in 0..GROUP {
        g.call(TableCall::Enter, &[0, first, place.v, PAGE << 12 | RW]).is(SUCCESS, "no room in an empty group")?;
    }
    let before = g.digest();
    g.call(TableCall::Enter, &[0, first, place.v, PAGE << 12 | RW]).is(FULL, "a full group had room")?;
    check(g.digest() == before, "a refusal changed the table")?;
    g.call(TableCall::Remove, &[0, first + 2, 0]).is(SUCCESS, "an entry is not there")?;
    let again = g.call(TableCall::Enter, &[0, first, place.v, PAGE << 12 | RW]);
    check(again.status == SUCCESS && again.r[0] == first + 2, "a freed entry is not used again")
}

fn states(g) {
    g.touch(PAGE)?;
    let v = g.place(PAGE)?.v | LOCK | ABSENT;
    let done = g.call(TableCall::Enter, &[0, g.slot(PAGE)?, v, PAGE << 12 | RW]);
    done.is(SUCCESS, "H_ENTER was refused")?;
    check(g.words(done.r[0])?.is_valid(), "the entry of a present page is not valid")?;
    check(g.read(done.r[0])?.0 == g.place(PAGE)?.v | VALID, "the guest's states were taken for the entry's")
}

fn reserved(g) {
    let index = g.entered(RW | 1 << 62)?;
    check(g.read(index)?.1 == PAGE << 12 | RW, "a reserved bit was kept")
}

fn marks(g) {
    let index = g.entered(RW | R | C)?;
    check(g.words(index)?.r & (R | C) == 0, "R15: what the guest says was used counts as used")?;
    check(g.read(index)?.1 == PAGE << 12 | RW | R | C, "the guest's own marks are not told")
}

fn read_only(g) {
    g.touch(PAGE)?;
    show(g.b, g.memory, PAGES, Prot::READ | Prot::EXEC)?;
    let done = g.enter(PAGE, 0, RW)?;
    done.is(SUCCESS, "H_ENTER was refused")?;
    let leaf = g.leaf(PAGE).ok_or(Stop::Fail("not valid at once"))?;
    check(leaf.prot == Prot::READ | Prot::EXEC, "the entry allows more than the window")?;
    check(g.read(done.r[0])?.1 == PAGE << 12 | RW, "the guest is told of the hypervisor's protection")
}

fn no_access(g) {
    g.touch(PAGE)?;
    show(g.b, g.memory, PAGES, Prot::EXEC)?;
    let done = g.enter(PAGE, 0, RW)?;
    done.is(SUCCESS, "H_ENTER was refused")?;
    check(!g.words(done.r[0])?.is_valid() && g.leaf(PAGE).is_none(), "a page without access is mapped")
}

fn bracket(g) {
    g.touch(PAGE)?;
    let slot = g.memory.space().slots.find(&g.b.m.epoch().enter(g.b.cpu), Gfn(PAGE)).ok_or(Stop::Fail("no slot"))?;
    let range = slot.hvn(Gfn(PAGE)).and_then(|page| HvnRange::new(page, 1)).ok_or(Stop::Fail("no page"))?;
    let done = invalidate(g.b.cpu, g.b.m, g.memory.space(), range, |_| g.enter(PAGE, 0, RW))?;
    done.is(SUCCESS, "H_ENTER was refused while a page is being taken away")?;
    check(!g.words(done.r[0])?.is_valid(), "R6: an entry became valid inside a bracket")?;
    let found = g.missed(PAGE, Access::Write, 0x4200_0000, backend_ppc64::hash::fault::State::Privileged);
    check(g.fault(found)? == Outcome::Mapped && g.leaf(PAGE).is_some(), "the first access did not map it")
}

fn medium(g) {
    g.touch(0)?;
    // A segment of 64 KiB pages.
    let segment = backend_ppc64::hash::place::Segment::new(backend_ppc64::hash::place::VRMA | 0x110);
    let place = segment.ok_or(Stop::Fail("no segment of 64 KiB pages"))?.place(0x2_0000, g.table.parts().groups());
    let done = g.call(TableCall::Enter, &[0, place.group * GROUP, place.v, 0x2_0000 | 1 << 12 | RW]);
    done.is(SUCCESS, "64 KiB of a large leaf were refused")?;
    let words = g.words(done.r[0])?;
    check(words.is_valid() && words.order() == MEDIUM_PAGE && words.gfn() == Gfn(0x20), "not valid, or not 64 KiB")?;
    let (first, last) = (g.leaf(0x20), g.leaf(0x2f));
    let apart = first.zip(last).map(|(first, last)| last.pfn.0 - first.pfn.0);
    check(apart == Some(15) && g.leaf(0x30).is_none(), "other frames than those 64 KiB")
}

fn mixed(g) {
    g.touch(0)?;
    // Found by the hash of one of its 4 KiB.
    let place = g.place(0x25)?;
    let v = place.v | backend_ppc64::hash::words::LARGE;
    let done = g.call(TableCall::Enter, &[0, place.group * GROUP, v, 0x2_0000 | 7 << 12 | RW]);
    done.is(SUCCESS, "64 KiB in a segment of 4 KiB were refused")?;
    let words = g.words(done.r[0])?;
    check(words.is_valid() && words.order() == MEDIUM_PAGE && words.gfn() == Gfn(0x20), "not valid, or not 64 KiB")
}

fn alias(g) {
    let first = g.entered(RW)?;
    let second = g.enter(PAGE, 0, RW)?.r[0];
    check(first != second && g.words(second)?.is_valid(), "a second entry for a page is not valid")?;
    let page = GfnRange::new(Gfn(PAGE), 1).ok_or(Stop::Fail("no range"))?;
    g.memory.discard(g.b.cpu, g.b.m, page);
    check(!g.words(first)?.is_valid() && !g.words(second)?.is_valid(), "R18: an entry outlived its page")
}

fn zeros(g) {
    g.touch(PAGE)?;
    let place = g.place(PAGE)?;
    let flags = 1 << (63 - 48);
    let done = g.call(TableCall::Enter, &[flags, place.group * GROUP, place.v, PAGE << 12 | RW]);
    done.is(SUCCESS, "H_ENTER was refused")?;
    let mut word = [1; 8];
    check(g.memory.read(g.b.cpu, g.b.m, Gpa(PAGE << 12), &mut word).is_ok(), "RAM cannot be read")?;
    check(word == [0; 8], "the page was not filled with zeros")
}

fn secondary(g) {
    g.touch(PAGE)?;
    let place = g.place(PAGE)?.secondary(g.table.parts().groups());
    let done = g.call(TableCall::Enter, &[0, place.group * GROUP, place.v, PAGE << 12 | RW]);
    done.is(SUCCESS, "H_ENTER was refused")?;
    check(g.words(done.r[0])?.v & SECONDARY != 0, "the entry forgot which hash it is of")?;
    let walk = g.b.m.epoch().enter(g.b.cpu);
    let found = g.table.entry_for(g.b.m, &walk, &g.segment()?, PAGE << 12);
    check(found.is_some_and(|claim| claim.index() == done.r[0]), "it is not found by the secondary hash")
}

fn strong_order(g) {
    let index = g.entered(0x70 | 2)?;
    check(g.words(index)?.r & 0x78 == 0x70, "storage attributes were changed")
}
}
