//! Storage interrupts: whose they are.

use backend_ppc64::hash::calls::TableCall;
use backend_ppc64::hash::fault::{Found, Missed, State};
use backend_ppc64::hash::place::{KP, KS, VRMA};
use backend_ppc64::hash::table::GROUP;
use conformance::verdict::{Stop, check};
use hv_core::addr::Gpa;
use hv_core::mmu::Outcome;
use hv_core::radix::format::Prot;
use hv_core::vcpu::exit::Access;

use super::enter::show;
use crate::guest::{EXACT, PAGE, PAGES, RW, SUCCESS};
use crate::{cases, on_guest};

cases! { 17:
    "miss-without-an-entry-is-the-guests", "P2", Never, none;
    "miss-of-an-absent-entry-is-a-fault", "R4", Never, absent;
    "miss-of-an-entry-in-its-other-group", "R4", Never, other_group;
    "miss-of-an-entry-that-is-valid-by-now", "R4", Never, valid;
    "miss-of-an-entry-that-has-gone", "R4", Never, gone;
    "miss-that-the-guest-forbade", "P2", Never, forbidden;
    "miss-by-a-protection-that-is-not-in-the-table", "P2", Never, reserved;
    "miss-that-the-host-side-forbade-is-a-fault", "R11", Never, host_side;
    "miss-of-a-program-goes-by-its-own-key", "P2", Never, problem;
    "miss-of-a-kernel-goes-by-its-own-key", "P2", Never, privileged;
    "miss-of-a-fetch-that-the-guest-forbade", "P2", Never, fetch;
    "miss-forbidden-by-a-storage-key", "P2", Never, storage_key;
    "miss-in-real-mode-knows-no-keys", "P2", Never, real_mode;
    "miss-of-another-kind-is-the-guests", "R26", Never, other;
    "miss-in-a-segment-that-cannot-be", "R26", Never, segment;
    "miss-answered-after-the-entry-changed", "R4", Never, changed;
    "miss-of-a-page-without-memory-takes-it", "R21", Never, populates;
}

const NO_ENTRY: u64 = 0x4000_0000;
const PROTECTION: u64 = 0x0800_0000;
const STORE: u64 = 0x0200_0000;
const KEY: u64 = 0x0020_0000;

on_guest! {
fn none(g) {
    let found = g.missed(PAGE, Access::Write, NO_ENTRY | STORE, State::Privileged);
    check(found == Found::Reflect(NO_ENTRY | STORE), "an entry was found where none is")
}

fn absent(g) {
    g.enter(PAGE, 0, RW)?;
    let found = g.missed(PAGE, Access::Read, NO_ENTRY, State::Problem);
    check(matches!(found, Found::Fault { gpa: Gpa(at), access: Access::Read, .. } if at == PAGE << 12), "no fault")?;
    check(g.fault(found)? == Outcome::Mapped && g.leaf(PAGE).is_some(), "the fault was not answered")
}

fn other_group(g) {
    // Where a guest puts it that has no room in the first one.
    let second = g.place(PAGE)?.secondary(g.table.parts().groups());
    let index = second.group * GROUP;
    let enter = |r| g.call(TableCall::Enter, &[EXACT, index, second.v, PAGE << 12 | r]);
    enter(RW).is(SUCCESS, "H_ENTER was refused")?;
    let found = g.missed(PAGE, Access::Write, NO_ENTRY | STORE, State::Privileged);
    check(found != Found::Again, "its access is tried again and again, and the entry stays absent")?;
    check(g.fault(found)? == Outcome::Mapped && g.words(index)?.is_valid(), "the fault was not answered")?;
    check(g.missed(PAGE, Access::Write, NO_ENTRY | STORE, State::Privileged) == Found::Again, "a valid entry is not used")?;
    g.call(TableCall::Remove, &[0, index, 0]).is(SUCCESS, "H_REMOVE was refused")?;
    enter(0x13).is(SUCCESS, "H_ENTER was refused")?;
    let found = g.missed(PAGE, Access::Write, PROTECTION | STORE, State::Privileged);
    check(found == Found::Reflect(PROTECTION | STORE), "what it forbids is allowed, or tried again")
}

fn valid(g) {
    g.entered(RW)?;
    check(g.missed(PAGE, Access::Read, NO_ENTRY, State::Problem) == Found::Again, "a valid entry is not used")
}

fn gone(g) {
    check(g.missed(PAGE, Access::Write, PROTECTION | STORE, State::Problem) == Found::Again, "the next try says so")
}

fn forbidden(g) {
    g.entered(0x13)?;
    let found = g.missed(PAGE, Access::Write, PROTECTION | STORE, State::Privileged);
    check(found == Found::Reflect(PROTECTION | STORE), "the guest's own protection is no fault of ours")?;
    // Absent, and forbidden all the same: the guest is told of the protection.
    g.enter(PAGE + 1, 0, 0x13)?;
    let found = g.missed(PAGE + 1, Access::Write, NO_ENTRY | STORE, State::Privileged);
    check(found == Found::Reflect(PROTECTION | STORE), "the guest is told that it has no entry")
}

fn reserved(g) {
    // PP 4, 5 and 7: hardware lets nobody read by them.
    for pp in [0, 1, 3] {
        let index = g.entered(1 << 63 | 0x10 | pp)?;
        let found = g.missed(PAGE, Access::Read, PROTECTION, State::Privileged);
        check(found == Found::Reflect(PROTECTION), "a fault that no entry ends")?;
        g.call(TableCall::Remove, &[0, index, 0]).is(SUCCESS, "H_REMOVE was refused")?;
    }
    Ok(())
}

fn host_side(g) {
    g.touch(PAGE)?;
    show(g.b, g.memory, PAGES, Prot::READ | Prot::EXEC)?;
    g.enter(PAGE, 0, RW)?.is(SUCCESS, "H_ENTER was refused")?;
    let found = g.missed(PAGE, Access::Write, PROTECTION | STORE, State::Privileged);
    check(g.fault(found)? == Outcome::NoSlot, "a store through a window that allows none was mapped")?;
    show(g.b, g.memory, PAGES, Prot::all())?;
    let found = g.missed(PAGE, Access::Write, NO_ENTRY | STORE, State::Privileged);
    check(g.fault(found)? == Outcome::Mapped, "the window allows it now")?;
    check(g.leaf(PAGE).is_some_and(|leaf| leaf.prot == Prot::all()), "the window allows more")
}

fn problem(g) {
    // PP 0: for whom the key is 0 only.
    g.enter(PAGE, 0, 0x10)?;
    let miss = |segment, state| Missed {
        address: PAGE << 12, segment, status: NO_ENTRY, access: Access::Read, state, keys: 0,
    };
    check(g.missed_so(&miss(VRMA | KP, State::Problem)) == Found::Reflect(PROTECTION), "a program read what is not its own")?;
    check(matches!(g.missed_so(&miss(VRMA | KP, State::Privileged)), Found::Fault { .. }), "the kernel may")?;
    check(matches!(g.missed_so(&miss(VRMA, State::Problem)), Found::Fault { .. }), "without the key it may")
}

fn privileged(g) {
    g.enter(PAGE, 0, 0x11)?;
    let miss = |segment, access| Missed {
        address: PAGE << 12, segment, status: NO_ENTRY, access, state: State::Privileged, keys: 0,
    };
    check(matches!(g.missed_so(&miss(VRMA | KS, Access::Read)), Found::Fault { .. }), "PP 1 is for reading")?;
    check(g.missed_so(&miss(VRMA | KS, Access::Write)) == Found::Reflect(PROTECTION | STORE), "PP 1 is for reading")?;
    check(matches!(g.missed_so(&miss(VRMA, Access::Write)), Found::Fault { .. }), "without the key it may")
}

fn fetch(g) {
    g.enter(PAGE, 0, RW | 4)?;
    let found = g.missed(PAGE, Access::Fetch, NO_ENTRY, State::Privileged);
    check(found == Found::Reflect(0x1000_0000), "the guest executes what it forbade")?;
    check(matches!(g.missed(PAGE, Access::Read, NO_ENTRY, State::Privileged), Found::Fault { .. }), "it may be read")
}

fn storage_key(g) {
    // Key 31: all five bits.
    g.enter(PAGE, 0, RW | 3 << 60 | 0xe00)?;
    let miss = |access, keys, state| Missed {
        address: PAGE << 12, segment: VRMA, status: NO_ENTRY, access, state, keys,
    };
    let problem = State::Problem;
    check(g.missed_so(&miss(Access::Read, 1, problem)) == Found::Reflect(KEY), "a load that its key forbids")?;
    check(g.missed_so(&miss(Access::Write, 2, problem)) == Found::Reflect(KEY | STORE), "a store that its key forbids")?;
    check(matches!(g.missed_so(&miss(Access::Read, !3 | 2, problem)), Found::Fault { .. }), "other keys are not its own")?;
    check(matches!(g.missed_so(&miss(Access::Fetch, 3, problem)), Found::Fault { .. }), "fetches have no key here")?;
    check(matches!(g.missed_so(&miss(Access::Write, 3, State::Real)), Found::Fault { .. }), "nor has real mode")
}

fn real_mode(g) {
    g.enter(PAGE, 0, 0x10)?;
    let miss = Missed {
        address: PAGE << 12,
        segment: VRMA | KS | KP,
        status: NO_ENTRY | STORE,
        access: Access::Write,
        state: State::Real,
        keys: u64::MAX,
    };
    check(matches!(g.missed_so(&miss), Found::Fault { .. }), "real mode is held to protection")
}

fn other(g) {
    g.entered(RW)?;
    let found = g.missed(PAGE, Access::Read, 0x0008_0000, State::Privileged);
    check(found == Found::Reflect(0x0008_0000), "a mistake in the guest's own structures is its own")
}

fn segment(g) {
    g.entered(RW)?;
    for segment in [2 << 62, 3 << 62, VRMA | 0x120, VRMA | 0x130] {
        let miss = Missed {
            address: PAGE << 12, segment, status: NO_ENTRY, access: Access::Read, state: State::Problem, keys: 0,
        };
        check(g.missed_so(&miss) == Found::Reflect(NO_ENTRY), "a segment that cannot be was used")?;
    }
    Ok(())
}

fn changed(g) {
    g.touch(PAGE)?;
    g.touch(PAGE + 1)?;
    let index = g.enter(PAGE, 0, RW)?.r[0];
    g.memory.discard(g.b.cpu, g.b.m, hv_core::addr::GfnRange::new(hv_core::addr::Gfn(PAGE), 1).ok_or(Stop::Fail("no range"))?);
    let stale = g.missed(PAGE, Access::Write, NO_ENTRY | STORE, State::Privileged);
    g.call(TableCall::Remove, &[0, index, 0]).is(SUCCESS, "an entry is not there")?;
    check(g.fault(stale)? == Outcome::Retry, "R4: a free entry was answered")?;
    let place = g.place(PAGE)?;
    let again = g.call(TableCall::Enter, &[1 << 39, index, place.v, (PAGE + 9) << 12 | RW]);
    again.is(SUCCESS, "H_ENTER was refused")?;
    check(g.fault(stale)? == Outcome::Retry && !g.words(index)?.is_valid(), "R4: an entry for another page was answered")?;
    let stale = g.missed(PAGE, Access::Write, NO_ENTRY | STORE, State::Privileged);
    g.call(TableCall::Protect, &[3, index, 0]).is(SUCCESS, "an entry is not there")?;
    check(g.fault(stale)? == Outcome::Retry, "R4: an entry that the guest has protected since was answered")
}

fn populates(g) {
    let before = g.b.free();
    g.enter(PAGE, 0, RW)?;
    check(g.b.free() == before, "entering a page took a frame")?;
    let found = g.missed(PAGE, Access::Write, NO_ENTRY | STORE, State::Privileged);
    check(g.fault(found)? == Outcome::Mapped && g.b.free() < before, "the fault was not answered with memory")
}
}
