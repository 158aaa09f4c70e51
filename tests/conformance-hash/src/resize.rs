//! H_RESIZE_HPT_PREPARE and H_RESIZE_HPT_COMMIT: what the guest has put stays or goes, and nobody goes by the old table.

use backend_ppc64::hash::calls::{Called, Context, RealMode, TableCall};
use backend_ppc64::hash::entry::Patience;
use backend_ppc64::hash::fault::{Found, State};
use backend_ppc64::hash::table::GROUP;
use backend_ppc64::hash::words::{ABSENT, C, R};
use conformance::verdict::{Run, Stop, check};
use hv_core::isa::Stage2;
use hv_core::machine::Machine;
use hv_core::mmu::Outcome;
use hv_core::sync::{AtomicBool, Ordering, spin_loop};
use hv_core::vcpu::exit::Access;

use crate::guest::{EXACT, FULL, Guest, NOT_FOUND, PAGE, PARAMETER, RW, SUCCESS};
use crate::{cases, on_guest};

/// Statuses, and log2 of sizes: the table's at first, and twice that.
const CLOSED: i64 = 2;
const RESOURCE: i64 = -16;
const FIRST: u64 = 18;
const TWICE: u64 = 19;
/// v: the entry stays.
const BOLTED: u64 = 0x10;
/// How often a call is made while it is waited for that a move begins.
const TRIES: u32 = 3_000_000;

cases! { 9:
    "resize-carries-bolted-entries-and-no-others", "D3", Never, carries;
    "resize-keeps-the-marks-of-bolted-entries", "R14", Never, marks;
    "resize-tells-ageing-of-what-was-used", "R15", Never, ages;
    "resize-commits-what-was-prepared-only", "D3", Never, prepared;
    "resize-refuses-sizes-and-flags", "R26", Never, refused;
    "resize-without-room-changes-nothing-for-the-guest", "R21", Never, full;
    "resize-frees-the-old-table", "R24", Never, frames;
    "resize-meanwhile-nobody-changes-an-entry", "D3", Never, moving;
    "race-calls-against-resizes", "D3", Never, race;
}

/// Prepares and commits.
fn resize<I>(g: &Guest<'_, I>, log2: u64) -> Run
where
    I: hv_core::isa::Isa,
    I::Machine: backend_ppc64::hash::Processor,
    I::Claim: backend_ppc64::hash::Hashed,
    I::Stage2: backend_ppc64::hash::MayBeHashed,
{
    g.call(TableCall::ResizePrepare, &[0, log2]).is(SUCCESS, "no table was prepared")?;
    g.call(TableCall::ResizeCommit, &[0, log2]).is(SUCCESS, "the table that was prepared is not taken")
}

/// H_ENTER of a page at its own number, which is to stay.
fn bolt<I>(g: &Guest<'_, I>, gfn: u64) -> Result<u64, Stop>
where
    I: hv_core::isa::Isa,
    I::Machine: backend_ppc64::hash::Processor,
    I::Claim: backend_ppc64::hash::Hashed,
    I::Stage2: backend_ppc64::hash::MayBeHashed,
{
    let place = g.place(gfn)?;
    let done = g.call(TableCall::Enter, &[0, place.group * GROUP, place.v | BOLTED, gfn << 12 | RW]);
    done.is(SUCCESS, "H_ENTER was refused")?;
    Ok(done.r[0])
}

on_guest! {
fn carries(g) {
    for gfn in [PAGE, PAGE + 1, 900] {
        g.touch(gfn)?;
    }
    let (bolted, other, far) = (bolt(g, PAGE)?, g.enter(PAGE + 1, 0, RW)?.r[0], bolt(g, 900)?);
    let before = [g.read(bolted)?, g.read(far)?];
    for log2 in [TWICE, FIRST] {
        resize(g, log2)?;
        check(g.table.parts().entries() == 1 << (log2 - 4), "the table has another size")?;
        // One entry a group: each is the first of its own.
        check([g.read(g.slot(PAGE)?)?, g.read(g.slot(900)?)?] == before, "a bolted entry is not where it belongs")?;
        check(g.read(g.slot(PAGE + 1)?)? == (0, 0), "an entry that is not bolted was carried")?;
        check(g.leaf(PAGE).is_none() && g.words(g.slot(PAGE)?)?.v & ABSENT != 0, "carried as valid")?;
        let found = g.missed(PAGE, Access::Write, 0x4200_0000, State::Privileged);
        check(g.fault(found)? == Outcome::Mapped && g.leaf(PAGE).is_some(), "it does not come back")?;
    }
    g.call(TableCall::Remove, &[0, other, 0]).is(NOT_FOUND, "what was not carried is there")
}

fn marks(g) {
    g.touch(PAGE)?;
    g.mark(bolt(g, PAGE)?, R | C);
    resize(g, TWICE)?;
    check(g.read(g.slot(PAGE)?)?.1 & (R | C) == R | C, "R14: the guest's marks were lost")
}

fn ages(g) {
    let index = g.entered(RW)?;
    g.mark(index, R);
    resize(g, TWICE)?;
    check(crate::host::used(g, PAGE)? && !crate::host::used(g, PAGE)?, "R15: a use is told once, whatever became of the entry")
}

fn prepared(g) {
    let index = g.entered(RW)?;
    let before = g.digest();
    let commit = |log2| g.call(TableCall::ResizeCommit, &[0, log2]).status;
    check(commit(TWICE) == CLOSED, "a table came from nowhere")?;
    g.call(TableCall::ResizePrepare, &[0, TWICE]).is(SUCCESS, "no table was prepared")?;
    check(commit(FIRST) == CLOSED, "a table of another size was taken")?;
    g.call(TableCall::ResizePrepare, &[0, 0]).is(SUCCESS, "what was prepared cannot be given up")?;
    check(commit(TWICE) == CLOSED, "a table that was given up was taken")?;
    check(g.digest() == before && g.words(index)?.is_valid(), "the table changed meanwhile")?;
    g.call(TableCall::ResizePrepare, &[0, FIRST]).is(SUCCESS, "no table of another size was prepared")?;
    resize(g, TWICE)
}

fn refused(g) {
    let before = g.digest();
    for call in [TableCall::ResizePrepare, TableCall::ResizeCommit] {
        for (flags, log2, status) in
            [(1, TWICE, PARAMETER), (0, 17, PARAMETER), (0, 47, PARAMETER), (0, u64::MAX, PARAMETER), (0, 46, RESOURCE), (0, 20, RESOURCE)]
        {
            g.call(call, &[flags, log2]).is(status, "a wrong size has another status")?;
        }
    }
    check(g.digest() == before, "the table changed meanwhile")
}

fn full(g) {
    resize(g, TWICE)?;
    // Two groups that are one in the smaller table.
    let (v, first) = (g.place(PAGE)?.v | BOLTED, g.slot(PAGE)?);
    let half = g.table.parts().groups() / 2 * GROUP;
    let entries = (first..first + GROUP).chain([first ^ half]);
    g.touch(PAGE)?;
    for index in entries.clone() {
        g.call(TableCall::Enter, &[EXACT, index, v, PAGE << 12 | RW]).is(SUCCESS, "H_ENTER was refused")?;
    }
    let all = |g: &Guest<'_, I>| entries.clone().try_fold([(0, 0); 16], |mut all, index| {
        all[(index / half * GROUP + index % GROUP) as usize] = g.read(index)?;
        Ok(all)
    });
    let before = all(g)?;
    g.call(TableCall::ResizePrepare, &[0, FIRST]).is(SUCCESS, "no table was prepared")?;
    g.call(TableCall::ResizeCommit, &[0, FIRST]).is(FULL, "nine entries found room in a group of eight")?;
    check(all(g)? == before && g.table.parts().entries() == 1 << (TWICE - 4), "the guest's entries are others now")?;
    g.call(TableCall::ResizeCommit, &[0, FIRST]).is(CLOSED, "what did not do is kept")?;
    let found = g.missed(PAGE, Access::Write, 0x4200_0000, State::Privileged);
    check(g.fault(found)? == Outcome::Mapped, "an entry does not come back")
}

fn frames(g) {
    let frames = || Stage2::<I>::table_frames(g.memory.stage2());
    let before = frames();
    g.call(TableCall::ResizePrepare, &[0, TWICE]).is(SUCCESS, "no table was prepared")?;
    check(frames() == before + (2 << (TWICE - 12)), "what is prepared is not accounted for")?;
    g.call(TableCall::ResizeCommit, &[0, TWICE]).is(SUCCESS, "the table that was prepared is not taken")?;
    check(frames() == before + (2 << (FIRST - 12)), "the old table is kept")?;
    resize(g, FIRST)?;
    check(frames() == before, "R24: frames were lost")
}

fn moving(g) {
    let index = g.entered(RW)?;
    let other = g.enter(PAGE + 1, 0, RW)?.r[0];
    g.call(TableCall::ResizePrepare, &[0, TWICE]).is(SUCCESS, "no table was prepared")?;
    let real = RealMode::on(g.b.cpu, 0).ok_or(Stop::Fail("no real mode"))?;
    let (held, mut run) = (AtomicBool::new(false), Ok(()));
    let there = |cpu: &hv_core::epoch::Cpu| {
        while !held.load(Ordering::Acquire) {
            spin_loop();
        }
        let _ = g.table.commit(cpu, g.b.m, TWICE);
    };
    let both = g.b.rig.both(&there, &mut |_| {
        let walk = g.b.m.epoch().enter(g.b.cpu);
        // The move cannot be over while this is held.
        let entry = g.table.parts().entry(g.b.m, &walk, index).lock(Patience::Endless);
        held.store(true, Ordering::Release);
        let defers = |_| g.call_in(Context::Real(real), TableCall::Read, &[0, other]).0 == Called::Defer;
        run = check((0..TRIES).any(defers), "D3: an entry of a table that is being moved was taken").and_then(|()| {
            let found = g.missed(PAGE + 1, Access::Write, 0x0a00_0000, State::Privileged);
            check(found == Found::Again, "D3: a fault was judged by a table that is being moved")
        });
        drop(entry);
    });
    if !both {
        return Err(Stop::Skip("there is one CPU only"));
    }
    run.and_then(|()| check(g.table.parts().entries() == 1 << (TWICE - 4), "the move did not come to its end"))
}

fn race(g) {
    g.touch(PAGE)?;
    let (done, mut run) = (AtomicBool::new(false), Ok(()));
    let there = |cpu: &hv_core::epoch::Cpu| {
        for log2 in [TWICE, FIRST].into_iter().cycle().take(20) {
            let _ = g.table.prepare(cpu, g.b.m, log2).and_then(|()| g.table.commit(cpu, g.b.m, log2));
        }
        done.store(true, Ordering::Release);
    };
    let storm = || -> Run {
        let mut rounds = 0;
        while !done.load(Ordering::Acquire) || rounds < 20 {
            let entered = g.enter(PAGE, 0, RW)?;
            // The number may be of an entry that only the larger table has.
            check([SUCCESS, FULL, PARAMETER].contains(&entered.status), "H_ENTER has another status")?;
            let found = g.missed(PAGE, Access::Write, 0x4200_0000, State::Privileged);
            if let Found::Fault { .. } = found {
                let _ = g.fault(found)?;
            }
            let removed = g.call(TableCall::Remove, &[0, entered.r[0], 0]);
            check([SUCCESS, NOT_FOUND, PARAMETER].contains(&removed.status), "H_REMOVE has another status")?;
            rounds += 1;
        }
        Ok(())
    };
    if !g.b.rig.both(&there, &mut |_| run = storm()) {
        return Err(Stop::Skip("there is one CPU only"));
    }
    run
}
}
