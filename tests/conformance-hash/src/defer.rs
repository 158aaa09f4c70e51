//! Real mode's deferrals: they change nothing, and virtual mode finishes what they left.

use backend_ppc64::hash::calls::{Called, Context, RealMode, TableCall};
use backend_ppc64::hash::entry::Patience;
use conformance::verdict::{Stop, check};
use hv_core::machine::Machine;

use crate::guest::{EXACT, Guest, Mode, PAGE, RW};
use crate::{cases, on_guest};

cases! { 5:
    "defer-what-is-locked-changing-nothing", "R21", Never, locked;
    "defer-a-bulk-as-a-whole", "R21", Never, bulk;
    "defer-an-enter-into-a-group-that-is-locked", "R21", Never, group;
    "defer-an-enter-of-a-page-that-the-store-has", "R21", Never, stored;
    "real-mode-is-refused-where-translation-is-on", "R21", Never, translation;
}

/// Makes these calls in real mode while entry `index` is locked: each of them is deferred, with nothing changed.
fn all_defer<I>(g: &Guest<'_, I>, index: u64, calls: &[(TableCall, &[u64])]) -> conformance::verdict::Run
where
    I: hv_core::isa::Isa,
    I::Machine: backend_ppc64::hash::Processor,
    I::Claim: backend_ppc64::hash::Hashed,
    I::Stage2: backend_ppc64::hash::MayBeHashed,
{
    let real = RealMode::on(g.b.cpu, 0).ok_or(Stop::Fail("no real mode"))?;
    let walk = g.b.m.epoch().enter(g.b.cpu);
    let held = g.table.parts().entry(g.b.m, &walk, index).lock(Patience::Some);
    check(held.is_some(), "an entry stayed locked")?;
    let before = g.digest();
    for (call, args) in calls {
        let (done, answer) = g.call_in(Context::Real(real), *call, args);
        check(done == Called::Defer, "real mode waited for a lock, or went without")?;
        check(answer.r[..args.len()] == **args && answer.status == *call as i64, "R21: a deferral changed registers")?;
        check(g.digest() == before, "R21: a deferral changed the table")?;
    }
    Ok(())
}

on_guest! {
fn locked(g) {
    let index = g.entered(RW)?;
    all_defer(g, index, &[
        (TableCall::Remove, &[0, index, 0]),
        (TableCall::Read, &[0, index]),
        (TableCall::Read, &[1 << (63 - 26), index]),
        (TableCall::Protect, &[3, index, 0]),
        (TableCall::ClearRef, &[0, index]),
        (TableCall::ClearMod, &[0, index]),
        (TableCall::Enter, &[EXACT, index, g.place(PAGE)?.v, PAGE << 12 | RW]),
    ])?;
    let other = Guest { mode: Mode::Virtual, ..*g };
    other.call(TableCall::Remove, &[0, index, 0]).is(0, "virtual mode does not finish it")
}

fn bulk(g) {
    let first = g.entered(RW)?;
    let second = g.enter(PAGE, 0, RW)?.r[0];
    let (request, end) = (1 << 62, 3 << 62);
    // The first could be had.
    all_defer(g, second, &[
        (TableCall::BulkRemove, &[request | first, 0, request | second, 0, end, 0, end, 0]),
        (TableCall::BulkRemove, &[request | first, 0, request | second, 0, 0, 0, end, 0]),
    ])?;
    check(g.words(first)?.is_valid(), "R21: a part of a bulk was done")
}

fn group(g) {
    let (index, place) = (g.slot(PAGE)?, g.place(PAGE)?);
    for n in 1..backend_ppc64::hash::table::GROUP {
        let done = g.call(TableCall::Enter, &[EXACT, index + n, place.v, PAGE << 12 | RW]);
        done.is(0, "H_ENTER was refused")?;
    }
    // The only free entry is the one that is locked: whether the group is full is not known yet (exhibit D5).
    all_defer(g, index, &[(TableCall::Enter, &[0, index, place.v, PAGE << 12 | RW])])?;
    g.enter(PAGE, 0, RW)?.is(0, "D5: a group with room was called full")
}

fn stored(g) {
    g.touch(PAGE)?;
    g.memory.reclaim(g.b.cpu, g.b.m, u64::MAX);
    check(g.memory.stats().swapped == 1, "the page did not go to the store")?;
    let (real, v) = (RealMode::on(g.b.cpu, 0).ok_or(Stop::Fail("no real mode"))?, g.place(PAGE)?.v);
    let args = [0, g.slot(PAGE)?, v, PAGE << 12 | RW];
    let before = g.digest();
    let (done, answer) = g.call_in(Context::Real(real), TableCall::Enter, &args);
    check(done == Called::Defer, "real mode waited for the store, or went without")?;
    check(answer.r[..4] == args && g.digest() == before, "R21: a deferral changed something")?;
    check(g.memory.stats().swapped == 1, "R21: real mode took a frame")?;
    let entered = Guest { mode: Mode::Virtual, ..*g }.call(TableCall::Enter, &args);
    entered.is(0, "virtual mode does not finish it")?;
    check(g.words(entered.r[0])?.is_valid(), "virtual mode did not bring the page back")?;
    check(g.memory.stats().swapped == 0, "the store has what is there")
}

fn translation(g) {
    for msr in [0x10, 0x20, 0x30] {
        check(RealMode::on(g.b.cpu, msr).is_none(), "real mode with translation on")?;
    }
    check(RealMode::on(g.b.cpu, !0x30).is_some(), "real mode is known by translation alone")
}
}
