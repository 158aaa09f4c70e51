//! H_REMOVE and H_BULK_REMOVE.

use backend_ppc64::hash::calls::TableCall;
use backend_ppc64::hash::words::{C, R, VALID};
use conformance::verdict::{Stop, check};
use hv_core::addr::{Gfn, GfnRange};
use hv_core::isa::Stage2;
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;

use crate::guest::{ANDCOND, AVPN, NOT_FOUND, PAGE, PARAMETER, RW, SUCCESS};
use crate::{cases, on_guest};

cases! { 21:
    "remove-returns-what-was-there", "P2", Never, returns;
    "remove-an-absent-entry-was-valid-to-the-guest", "P2", Never, absent;
    "remove-a-free-entry", "P2", Never, free;
    "remove-beyond-the-table", "R26", Never, beyond;
    "remove-what-the-avpn-matches", "P2", Never, avpn;
    "remove-not-what-the-avpn-does-not-match", "P2", Never, other_avpn;
    "remove-what-andcond-allows", "P2", Never, andcond;
    "remove-not-what-andcond-forbids", "P2", Never, other_andcond;
    "remove-returns-the-marks-of-hardware", "R14", Never, marks;
    "remove-returns-marks-set-after-a-zap", "R14", Never, late;
    "remove-takes-the-record-too", "R18", Never, record;
    "remove-the-middle-one-of-a-chain", "R18", Never, chain;
    "bulk-removes-four", "P2", Never, four;
    "bulk-tells-what-is-not-there", "P2", Never, missing;
    "bulk-ends-where-it-says", "P2", Never, ends;
    "bulk-stops-at-a-wrong-request", "P2", Never, wrong;
    "bulk-stops-at-an-entry-beyond-the-table", "R26", Never, bulk_beyond;
    "bulk-matches-the-avpn", "P2", Never, bulk_avpn;
    "bulk-matches-andcond", "P2", Never, bulk_andcond;
    "bulk-of-one-entry-twice", "R21", Never, twice;
    "bulk-returns-the-marks-of-hardware", "R14", Never, bulk_marks;
}

const REQUEST: u64 = 1 << 62;
const END: u64 = 3 << 62;
const REMOVED: u64 = 0x80 << 56;
const MISSING: u64 = 0x90 << 56;
const WRONG: u64 = 0xa0 << 56;
const ANDCOND_KIND: u64 = 1 << 56;
const AVPN_KIND: u64 = 2 << 56;

on_guest! {
fn returns(g) {
    let index = g.entered(RW | 0x4)?;
    let done = g.call(TableCall::Remove, &[0, index, 0]);
    done.is(SUCCESS, "an entry is not there")?;
    check(done.r[..2] == [g.place(PAGE)?.v | VALID, PAGE << 12 | RW | 0x4], "another entry was removed")?;
    check(g.words(index)?.is_free() && g.leaf(PAGE).is_none(), "a removed entry translates")?;
    check(g.read(index)? == (0, 0), "a free entry tells what it was")
}

fn absent(g) {
    let index = g.enter(PAGE, 0, RW)?.r[0];
    let done = g.call(TableCall::Remove, &[0, index, 0]);
    done.is(SUCCESS, "an absent entry is not there")?;
    check(done.r[..2] == [g.place(PAGE)?.v | VALID, PAGE << 12 | RW], "the guest is told of the hypervisor's states")
}

fn free(g) {
    let before = g.digest();
    let done = g.call(TableCall::Remove, &[0, 3, 9]);
    done.is(NOT_FOUND, "a free entry was removed")?;
    check(done.r[..3] == [0, 3, 9] && g.digest() == before, "a refusal changed something")
}

fn beyond(g) {
    for index in [g.table.parts().entries(), u64::MAX] {
        g.call(TableCall::Remove, &[0, index, 0]).is(PARAMETER, "an entry beyond the table was removed")?;
    }
    Ok(())
}

fn avpn(g) {
    let index = g.entered(RW)?;
    g.call(TableCall::Remove, &[AVPN, index, g.place(PAGE)?.v]).is(SUCCESS, "the right AVPN did not match")
}

fn other_avpn(g) {
    let index = g.entered(RW)?;
    let before = g.digest();
    let done = g.call(TableCall::Remove, &[AVPN, index, g.place(PAGE)?.v ^ 1 << 20]);
    done.is(NOT_FOUND, "a wrong AVPN matched")?;
    check(g.digest() == before && g.leaf(PAGE).is_some(), "a refusal changed the entry")
}

fn andcond(g) {
    let index = g.entered(RW)?;
    g.call(TableCall::Remove, &[ANDCOND, index, 0x18]).is(SUCCESS, "bits that are clear held it back")
}

fn other_andcond(g) {
    let place = g.place(PAGE)?;
    let index = g.call(TableCall::Enter, &[0, g.slot(PAGE)?, place.v | 0x10, PAGE << 12 | RW]).r[0];
    g.call(TableCall::Remove, &[ANDCOND, index, 0x10]).is(NOT_FOUND, "a bolted entry was removed")?;
    check(!g.words(index)?.is_free(), "a refusal freed the entry")
}

fn marks(g) {
    let index = g.entered(RW)?;
    g.mark(index, R | C);
    let done = g.call(TableCall::Remove, &[0, index, 0]);
    check(done.r[1] == PAGE << 12 | RW | R | C, "R14: what hardware has noted is lost")
}

fn late(g) {
    let index = g.entered(RW)?;
    let page = GfnRange::new(Gfn(PAGE), 1).ok_or(Stop::Fail("no range"))?;
    let mut batch = FlushBatch::new(g.table.tag());
    let _ = Stage2::<I>::unmap(g.memory.stage2(), g.b.cpu, g.b.m, page, &mut batch, None);
    // A CPU that holds the entry still.
    g.mark(index, C);
    let done = g.call(TableCall::Remove, &[0, index, 0]);
    g.b.m.flush(batch).release(g.b.cpu, g.b.m);
    check(done.status == SUCCESS && done.r[1] & C != 0, "R14: what hardware noted late is lost")
}

fn record(g) {
    let index = g.entered(RW)?;
    g.call(TableCall::Remove, &[0, index, 0]).is(SUCCESS, "an entry is not there")?;
    let page = GfnRange::new(Gfn(PAGE), 1).ok_or(Stop::Fail("no range"))?;
    // The place goes to another page, which keeps it.
    g.touch(PAGE + 1)?;
    let again = g.call(TableCall::Enter, &[1 << 39, index, g.place(PAGE)?.v, (PAGE + 1) << 12 | RW]);
    again.is(SUCCESS, "H_ENTER was refused")?;
    g.memory.discard(g.b.cpu, g.b.m, page);
    check(g.words(index)?.is_valid(), "R18: an entry was taken away by the record of another")
}

fn chain(g) {
    let first = g.entered(RW)?;
    let (second, third) = (g.enter(PAGE, 0, RW)?.r[0], g.enter(PAGE, 0, RW)?.r[0]);
    g.call(TableCall::Remove, &[0, second, 0]).is(SUCCESS, "an entry is not there")?;
    let page = GfnRange::new(Gfn(PAGE), 1).ok_or(Stop::Fail("no range"))?;
    g.memory.discard(g.b.cpu, g.b.m, page);
    check(!g.words(first)?.is_valid() && !g.words(third)?.is_valid(), "R18: a removal cut the chain")
}

fn four(g) {
    g.touch(PAGE)?;
    let mut requests = [0; 8];
    for n in 0..4 {
        requests[2 * n] = REQUEST | g.enter(PAGE + n as u64, 0, RW)?.r[0];
    }
    let done = g.call(TableCall::BulkRemove, &requests);
    done.is(SUCCESS, "a bulk of entries was refused")?;
    for n in 0..4 {
        let index = requests[2 * n] & 0xffff_ffff;
        check(done.r[2 * n] == REMOVED | index && g.words(index)?.is_free(), "an entry of a bulk is still there")?;
    }
    check(g.leaf(PAGE).is_none(), "a removed entry translates")
}

fn missing(g) {
    let index = g.entered(RW)?;
    let done = g.call(TableCall::BulkRemove, &[REQUEST | (index + 1), 0, REQUEST | index, 0, END, 0, 0, 0]);
    done.is(SUCCESS, "a bulk with a free entry was refused")?;
    check(done.r[0] == MISSING | (index + 1), "a free entry was removed")?;
    check(done.r[2] == REMOVED | index && done.r[4] == END, "what came after was not done")
}

fn ends(g) {
    let index = g.entered(RW)?;
    let args = [END, 0, REQUEST | index, 0, END, 0, END, 0];
    let done = g.call(TableCall::BulkRemove, &args);
    check(done.status == SUCCESS && done.r == args, "something after the end was done")?;
    check(!g.words(index)?.is_free(), "something after the end was done")
}

fn wrong(g) {
    let index = g.entered(RW)?;
    let other = g.enter(PAGE + 1, 0, RW)?.r[0];
    for bad in [0, 2 << 62, REQUEST | 3 << 56] {
        let done = g.call(TableCall::BulkRemove, &[bad | 7, 0, REQUEST | other, 0, END, 0, END, 0]);
        done.is(PARAMETER, "a wrong request was taken")?;
        check(done.r[0] == WRONG | bad & 3 << 56 | 7 && done.r[2] == REQUEST | other, "what came after was answered")?;
    }
    let done = g.call(TableCall::BulkRemove, &[REQUEST | index, 0, 2 << 62, 0, REQUEST | other, 0, END, 0]);
    done.is(PARAMETER, "a wrong request was taken")?;
    check(done.r[0] == REMOVED | index && g.words(index)?.is_free(), "what came before was not done")?;
    check(!g.words(other)?.is_free(), "what came after was done")
}

fn bulk_beyond(g) {
    let index = g.table.parts().entries();
    let done = g.call(TableCall::BulkRemove, &[REQUEST | index, 0, END, 0, END, 0, END, 0]);
    check(done.status == PARAMETER && done.r[0] == WRONG | index, "an entry beyond the table was removed")
}

fn bulk_avpn(g) {
    let (index, v) = (g.entered(RW)?, g.place(PAGE)?.v);
    let wrong = g.call(TableCall::BulkRemove, &[REQUEST | AVPN_KIND | index, v ^ 1 << 30, END, 0, END, 0, END, 0]);
    check(wrong.status == SUCCESS && wrong.r[0] == MISSING | AVPN_KIND | index, "a wrong AVPN matched")?;
    let right = g.call(TableCall::BulkRemove, &[REQUEST | AVPN_KIND | index, v, END, 0, END, 0, END, 0]);
    check(right.status == SUCCESS && right.r[0] == REMOVED | AVPN_KIND | index, "the right AVPN did not match")
}

fn bulk_andcond(g) {
    let index = g.call(TableCall::Enter, &[0, g.slot(PAGE)?, g.place(PAGE)?.v | 0x10, PAGE << 12 | RW]).r[0];
    let held = g.call(TableCall::BulkRemove, &[REQUEST | ANDCOND_KIND | index, 0x10, END, 0, END, 0, END, 0]);
    check(held.r[0] == MISSING | ANDCOND_KIND | index, "a bolted entry was removed")?;
    let done = g.call(TableCall::BulkRemove, &[REQUEST | ANDCOND_KIND | index, 0x08, END, 0, END, 0, END, 0]);
    check(done.r[0] == REMOVED | ANDCOND_KIND | index, "bits that are clear held it back")
}

fn twice(g) {
    let index = g.entered(RW)?;
    let done = g.call(TableCall::BulkRemove, &[REQUEST | index, 0, REQUEST | index, 0, END, 0, END, 0]);
    done.is(SUCCESS, "a bulk that names an entry twice was refused")?;
    check(done.r[0] == REMOVED | index && done.r[2] == MISSING | index, "an entry was removed twice")
}

fn bulk_marks(g) {
    let index = g.entered(RW)?;
    g.mark(index, R);
    let done = g.call(TableCall::BulkRemove, &[REQUEST | index, 0, END, 0, END, 0, END, 0]);
    check(done.r[0] == REMOVED | 0x08 << 56 | index, "R14: what hardware has noted is lost")
}
}
