//! H_PROTECT, H_READ, H_CLEAR_REF, H_CLEAR_MOD.

use backend_ppc64::hash::calls::TableCall;
use backend_ppc64::hash::words::{ABSENT, C, R, VALID};
use conformance::verdict::{Stop, check};
use hv_core::radix::format::Prot;

use super::enter::show;
use crate::guest::{AVPN, NOT_FOUND, PAGE, PAGES, PARAMETER, RW, SUCCESS};
use crate::{cases, on_guest};

cases! { 24:
    "protect-takes-the-right-to-store", "P2", Never, to_read_only;
    "protect-gives-it-back-if-the-host-side-has-it", "R11", Never, back;
    "protect-gives-no-more-than-the-host-side-has", "R11", Never, no_more;
    "protect-takes-execution", "P2", Never, no_execution;
    "protect-sets-keys-and-pp0", "P2", Never, keys;
    "protect-keeps-the-marks-of-hardware", "R14", Never, keeps_marks;
    "protect-an-absent-entry", "P2", Never, protect_absent;
    "protect-a-free-entry", "P2", Never, protect_free;
    "protect-what-the-avpn-matches", "P2", Never, protect_avpn;
    "protect-beyond-the-table", "R26", Never, protect_beyond;
    "read-one", "P2", Never, read_one;
    "read-four-from-the-first-of-four", "P2", Never, read_four;
    "read-a-free-entry-is-zeros", "R26", Never, read_free;
    "read-beyond-the-table", "R26", Never, read_beyond;
    "read-tells-no-frame", "R26", Never, read_frame;
    "clear-ref-returns-it-and-clears-it", "P2", Never, clear_ref;
    "clear-ref-keeps-the-other-mark", "R14", Never, clear_ref_keeps;
    "clear-ref-of-an-absent-entry", "R14", Never, clear_ref_absent;
    "clear-ref-of-a-free-entry", "P2", Never, clear_ref_free;
    "clear-mod-returns-it-and-clears-it", "P2", Never, clear_mod;
    "clear-mod-keeps-the-other-mark", "R14", Never, clear_mod_keeps;
    "clear-mod-leaves-the-entry-valid", "R14", Never, clear_mod_valid;
    "clear-mod-of-what-the-guest-said", "P2", Never, clear_mod_own;
    "clear-beyond-the-table", "R26", Never, clear_beyond;
}

/// H_PROTECT's flags are the protection bits of r where those are low, and others for PP0 and the high bits of the key.
const READ_ONLY: u64 = 3;
const PP0_FLAG: u64 = 0x100;
const KEY_HI_FLAGS: u64 = 0x3000;

on_guest! {
fn to_read_only(g) {
    let index = g.entered(RW)?;
    g.call(TableCall::Protect, &[READ_ONLY, index, 0]).is(SUCCESS, "an entry is not there")?;
    let leaf = g.leaf(PAGE).ok_or(Stop::Fail("the entry is not valid any more"))?;
    check(leaf.prot == Prot::READ | Prot::EXEC, "the entry allows what it did")?;
    check(g.read(index)?.1 == PAGE << 12 | 0x10 | 3, "the guest is told something else")
}

fn back(g) {
    let index = g.entered(0x13)?;
    check(g.leaf(PAGE).is_some_and(|leaf| !leaf.prot.contains(Prot::WRITE)), "the guest's protection was left out")?;
    g.call(TableCall::Protect, &[2, index, 0]).is(SUCCESS, "an entry is not there")?;
    check(g.leaf(PAGE).is_some_and(|leaf| leaf.prot == Prot::all()), "what the host side allows is refused")
}

fn no_more(g) {
    g.touch(PAGE)?;
    show(g.b, g.memory, PAGES, Prot::READ | Prot::EXEC)?;
    let index = g.enter(PAGE, 0, 0x13)?.r[0];
    g.call(TableCall::Protect, &[2, index, 0]).is(SUCCESS, "an entry is not there")?;
    check(g.leaf(PAGE).is_some_and(|leaf| leaf.prot == Prot::READ | Prot::EXEC), "R11: the window does not allow that")?;
    check(g.read(index)?.1 == PAGE << 12 | RW, "the guest is told something else")
}

fn no_execution(g) {
    let index = g.entered(RW)?;
    g.call(TableCall::Protect, &[2 | 4, index, 0]).is(SUCCESS, "an entry is not there")?;
    check(g.leaf(PAGE).is_some_and(|leaf| leaf.prot == Prot::READ | Prot::WRITE), "it can still be executed")
}

fn keys(g) {
    let index = g.entered(RW)?;
    let flags = PP0_FLAG | KEY_HI_FLAGS | 0xe00 | 2;
    g.call(TableCall::Protect, &[flags, index, 0]).is(SUCCESS, "an entry is not there")?;
    let asked = 1 << 63 | 3 << 60 | 0xe00 | 2;
    check(g.read(index)?.1 == PAGE << 12 | 0x10 | asked, "bits of the protection are lost")?;
    check(g.words(index)?.r & (asked | 0xff) == asked | 0x10, "hardware has another protection")
}

fn keeps_marks(g) {
    let index = g.entered(RW)?;
    g.mark(index, R | C);
    g.call(TableCall::Protect, &[READ_ONLY, index, 0]).is(SUCCESS, "an entry is not there")?;
    check(g.read(index)?.1 & (R | C) == R | C, "R14: what hardware has noted is lost")
}

fn protect_absent(g) {
    let index = g.enter(PAGE, 0, RW)?.r[0];
    g.call(TableCall::Protect, &[READ_ONLY, index, 0]).is(SUCCESS, "an absent entry is not there")?;
    check(g.words(index)?.v & ABSENT != 0 && g.read(index)?.1 == PAGE << 12 | 0x13, "it is something else now")
}

fn protect_free(g) {
    let before = g.digest();
    g.call(TableCall::Protect, &[READ_ONLY, 3, 0]).is(NOT_FOUND, "a free entry was protected")?;
    check(g.digest() == before, "a refusal changed the table")
}

fn protect_avpn(g) {
    let (index, v) = (g.entered(RW)?, g.place(PAGE)?.v);
    let before = g.digest();
    g.call(TableCall::Protect, &[AVPN | READ_ONLY, index, v ^ 1 << 20]).is(NOT_FOUND, "a wrong AVPN matched")?;
    check(g.digest() == before, "a refusal changed the table")?;
    g.call(TableCall::Protect, &[AVPN | READ_ONLY, index, v]).is(SUCCESS, "the right AVPN did not match")
}

fn protect_beyond(g) {
    let index = g.table.parts().entries();
    g.call(TableCall::Protect, &[READ_ONLY, index, 0]).is(PARAMETER, "an entry beyond the table was protected")
}

fn read_one(g) {
    let index = g.entered(RW)?;
    let read = g.call(TableCall::Read, &[0, index]);
    read.is(SUCCESS, "H_READ was refused")?;
    check(read.r[..3] == [g.place(PAGE)?.v | VALID, PAGE << 12 | RW, 0x7777], "other words, or more of them")
}

fn read_four(g) {
    let index = g.entered(RW)?;
    let read = g.call(TableCall::Read, &[1 << (63 - 26), index | 3]);
    read.is(SUCCESS, "H_READ was refused")?;
    let at = 2 * (index & 3) as usize;
    check(read.r[at..at + 2] == [g.place(PAGE)?.v | VALID, PAGE << 12 | RW], "another entry is in its place")?;
    check(read.r.iter().filter(|word| **word != 0).count() == 2, "free entries say something")
}

fn read_free(g) {
    check(g.read(7)? == (0, 0), "a free entry says something")
}

fn read_beyond(g) {
    for index in [g.table.parts().entries(), u64::MAX] {
        let read = g.call(TableCall::Read, &[1 << (63 - 26), index]);
        check(read.status == PARAMETER && read.r[1] == index, "an entry beyond the table was read")?;
    }
    Ok(())
}

fn read_frame(g) {
    let index = g.entered(RW)?;
    let leaf = g.leaf(PAGE).ok_or(Stop::Fail("not valid at once"))?;
    check(leaf.pfn.0 != PAGE, "the case needs a frame with another number")?;
    check(g.read(index)?.1 >> 12 == PAGE, "the guest is told a frame of the machine's")
}

fn clear_ref(g) {
    let index = g.entered(RW)?;
    g.mark(index, R);
    let done = g.call(TableCall::ClearRef, &[0, index]);
    check(done.status == SUCCESS && done.r[0] == PAGE << 12 | RW | R, "it was not set before")?;
    check(g.read(index)?.1 & R == 0 && g.words(index)?.is_valid(), "it is set still, or the entry has gone")
}

fn clear_ref_keeps(g) {
    let index = g.entered(RW)?;
    g.mark(index, R | C);
    g.call(TableCall::ClearRef, &[0, index]).is(SUCCESS, "an entry is not there")?;
    check(g.read(index)?.1 & (R | C) == C, "R14: the other mark is lost")
}

fn clear_ref_absent(g) {
    let index = g.enter(PAGE, 0, RW | R | C)?.r[0];
    let done = g.call(TableCall::ClearRef, &[0, index]);
    check(done.status == SUCCESS && done.r[0] & (R | C) == R | C, "an absent entry has no marks")?;
    check(g.read(index)?.1 & (R | C) == C, "it was not cleared")
}

fn clear_ref_free(g) {
    g.call(TableCall::ClearRef, &[0, 3]).is(NOT_FOUND, "a free entry was cleared")?;
    g.call(TableCall::ClearMod, &[0, 3]).is(NOT_FOUND, "a free entry was cleared")
}

fn clear_mod(g) {
    let index = g.entered(RW)?;
    g.mark(index, C);
    let done = g.call(TableCall::ClearMod, &[0, index]);
    check(done.status == SUCCESS && done.r[0] == PAGE << 12 | RW | C, "it was not set before")?;
    check(g.read(index)?.1 & C == 0, "it is set still")?;
    g.mark(index, C);
    check(g.call(TableCall::ClearMod, &[0, index]).r[0] & C != 0, "R14: a later mark is lost")
}

fn clear_mod_keeps(g) {
    let index = g.entered(RW)?;
    g.mark(index, R | C);
    g.call(TableCall::ClearMod, &[0, index]).is(SUCCESS, "an entry is not there")?;
    check(g.read(index)?.1 & (R | C) == R, "R14: the other mark is lost")
}

fn clear_mod_valid(g) {
    let index = g.entered(RW)?;
    g.mark(index, C);
    g.call(TableCall::ClearMod, &[0, index]).is(SUCCESS, "an entry is not there")?;
    check(g.leaf(PAGE).is_some_and(|leaf| leaf.prot == Prot::all()), "the page is not mapped any more, or not so")
}

fn clear_mod_own(g) {
    let index = g.entered(RW | C)?;
    check(g.call(TableCall::ClearMod, &[0, index]).r[0] & C != 0, "what the guest said is lost")?;
    check(g.read(index)?.1 & C == 0, "it is set still")
}

fn clear_beyond(g) {
    let index = g.table.parts().entries();
    for call in [TableCall::ClearRef, TableCall::ClearMod] {
        g.call(call, &[0, index]).is(PARAMETER, "an entry beyond the table was cleared")?;
    }
    Ok(())
}
}
