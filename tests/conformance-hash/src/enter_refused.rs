//! H_ENTER that is refused, with nothing changed.

use backend_ppc64::hash::calls::TableCall;
use backend_ppc64::hash::words::{AVPN, LARGE};
use conformance::verdict::{Stop, check};
use hv_core::radix::format::Prot;

use super::enter::show;
use crate::guest::{Guest, PAGE, PAGES, PARAMETER, RW};
use crate::{cases, on_guest};

cases! { 12:
    "enter-beyond-the-table", "R26", Never, beyond;
    "enter-a-reserved-segment-size", "R26", Never, segment;
    "enter-an-unknown-page-size", "R26", Never, unknown_size;
    "enter-16g-is-never-offered", "R11", Never, giant;
    "enter-64k-where-the-host-page-is-smaller", "R11", Never, smaller;
    "enter-16m-where-the-host-leaf-is-smaller", "R11", Always, larger;
    "enter-64k-that-the-window-ends-inside", "R11", Always, slot_ends;
    "enter-outside-of-memory", "R26", Never, outside;
    "enter-the-last-real-address", "R26", Never, last;
    "enter-uncached-memory", "P2", Never, uncached;
    "enter-guarded-memory", "P2", Never, guarded;
    "enter-a-virtual-page-that-memory-cannot-hold", "R26", Never, wide;
}

/// Refused by H_PARAMETER: registers and table are as they were.
fn refused<I>(g: &Guest<'_, I>, index: u64, v: u64, r: u64, otherwise: &'static str) -> conformance::verdict::Run
where
    I: hv_core::isa::Isa,
    I::Machine: backend_ppc64::hash::Processor,
    I::Claim: backend_ppc64::hash::Hashed,
    I::Stage2: backend_ppc64::hash::MayBeHashed,
{
    let (before, free) = (g.digest(), g.b.free());
    let done = g.call(TableCall::Enter, &[0, index, v, r]);
    done.is(PARAMETER, otherwise)?;
    check(done.r[..4] == [0, index, v, r], "a refusal changed registers")?;
    check(g.digest() == before && g.b.free() == free, "a refusal changed the table")
}

on_guest! {
fn beyond(g) {
    let v = g.place(PAGE)?.v;
    for index in [g.table.parts().entries(), u64::MAX, 1 << 32] {
        refused(g, index, v, PAGE << 12 | RW, "an entry beyond the table was taken")?;
    }
    Ok(())
}

fn segment(g) {
    for size in [2, 3] {
        refused(g, 0, g.place(PAGE)?.v & !(3 << 62) | size << 62, PAGE << 12 | RW, "a reserved segment size was taken")?;
    }
    Ok(())
}

fn unknown_size(g) {
    for size in [2, 4, 5, 6, 9, 15, 0x10, 0x18] {
        refused(g, 0, g.place(0)?.v | LARGE, size << 12 | RW, "an unknown page size was taken")?;
    }
    Ok(())
}

fn giant(g) {
    refused(g, 0, g.place(0)?.v | LARGE, 3 << 12 | RW, "a page of 16 GiB was taken")
}

fn smaller(g) {
    g.touch(0x20)?;
    refused(g, 0, g.place(0x20)?.v | LARGE, 0x2_0000 | 1 << 12 | RW, "64 KiB of a page of 4 KiB were taken")
}

fn larger(g) {
    g.touch(0)?;
    refused(g, 0, g.place(0)?.v | LARGE, RW, "16 MiB of less were taken")
}

fn slot_ends(g) {
    g.touch(0)?;
    show(g.b, g.memory, 0x28, Prot::all())?;
    refused(g, 0, g.place(0x20)?.v | LARGE, 0x2_0000 | 1 << 12 | RW, "pages that no window shows were taken")
}

fn outside(g) {
    for gfn in [PAGES, PAGES + 7, 1 << 40] {
        refused(g, 0, g.place(0)?.v, gfn << 12 | RW, "a page that is not the guest's was taken")?;
    }
    Ok(())
}

fn last(g) {
    for (v, size) in [(0, 0), (LARGE, 1), (LARGE, 7)] {
        let r = 0x01ff_ffff_ffff_0000 | size << 12 | RW;
        refused(g, 0, g.place(0)?.v | v, r, "the last page of all was taken")?;
    }
    Ok(())
}

fn uncached(g) {
    for attributes in [0x20, 0x28, 0x30, 0x38, 0x50, 0x60] {
        let r = PAGE << 12 | attributes | 2;
        refused(g, 0, g.place(PAGE)?.v, r, "memory was mapped as something else")?;
    }
    Ok(())
}

fn guarded(g) {
    for attributes in [0, 0x18, 0x78] {
        let r = PAGE << 12 | attributes | 2;
        refused(g, 0, g.place(PAGE)?.v, r, "memory was mapped as something else")?;
    }
    Ok(())
}

fn wide(g) {
    let v = g.place(PAGE)?.v | AVPN;
    if g.table.parts().layout.holds(v, 0) {
        return Err(Stop::Skip("entries in memory are as guests pass them"));
    }
    refused(g, 0, v, PAGE << 12 | RW, "an entry was taken that cannot be given back")
}
}
