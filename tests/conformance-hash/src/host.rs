//! The hypervisor's half, under the guest's calls: what is taken away, marked, aged and logged.

use backend_ppc64::hash::calls::TableCall;
use backend_ppc64::hash::edit::Room;
use backend_ppc64::hash::entry::Patience;
use backend_ppc64::hash::fault::State;
use backend_ppc64::hash::words::{ABSENT, C, R, VALID};
use conformance::verdict::{Run, Stop, check};
use hv_core::addr::{Gfn, GfnRange, Hvn, HvnRange};
use hv_core::host::HUGE;
use hv_core::machine::Machine;
use hv_core::mmu::{Outcome, age};
use hv_core::radix::format::Prot;
use hv_core::sync::{AtomicBool, Ordering};
use hv_core::vcpu::exit::Access;

use crate::guest::{Guest, PAGE, RW, SUCCESS};
use crate::{cases, on_guest};

cases! { 11:
    "zap-makes-entries-absent-and-keeps-the-guests-words", "R8", Never, zap;
    "zap-of-a-page-takes-the-64k-around-it", "R8", Always, zap_medium;
    "zap-keeps-the-marks-of-hardware-for-the-guest", "R14", Never, zap_marks;
    "age-tells-of-entries-and-the-guest-keeps-its-marks", "R15", Never, ages;
    "age-tells-of-entries-that-have-gone", "R15", Never, ages_gone;
    "age-tells-of-what-the-guest-cleared", "R15", Never, ages_cleared;
    "log-notices-the-first-store", "R16", Never, log;
    "log-takes-the-right-to-store-from-entries", "R16", Never, log_takes;
    "race-calls-against-a-page-that-comes-and-goes", "R6", Never, race_discard;
    "race-two-put-entries-into-one-group", "R4", Never, race_put;
    "race-calls-against-splits-and-collapses", "R3", Always, race_split;
}

fn page(gfn: u64) -> Result<GfnRange, Stop> {
    GfnRange::new(Gfn(gfn), 1).ok_or(Stop::Fail("no range"))
}

fn hvn<I: hv_core::isa::Isa>(g: &Guest<'_, I>, gfn: u64) -> Result<Hvn, Stop> {
    let slot = g.memory.space().slots.find(&g.b.m.epoch().enter(g.b.cpu), Gfn(gfn));
    slot.and_then(|slot| slot.hvn(Gfn(gfn))).ok_or(Stop::Fail("RAM is in no slot"))
}

/// True if a look tells that the page was used.
pub fn used<I: hv_core::isa::Isa>(g: &Guest<'_, I>, gfn: u64) -> Result<bool, Stop> {
    let range = HvnRange::new(hvn(g, gfn)?, 1).ok_or(Stop::Fail("no range"))?;
    let mut told = false;
    age(g.b.cpu, g.b.m, g.memory.space(), range, &mut |_, _| told = true);
    Ok(told)
}

/// The guest, on CPU `cpu`, enters and removes a page's entry, over and over, until `done`.
fn storm<I>(g: &Guest<'_, I>, gfns: &[u64], done: &AtomicBool) -> Run
where
    I: hv_core::isa::Isa,
    I::Machine: backend_ppc64::hash::Processor,
    I::Claim: backend_ppc64::hash::Hashed,
    I::Stage2: backend_ppc64::hash::MayBeHashed,
{
    let mut rounds = 0;
    while !done.load(Ordering::Acquire) || rounds < 20 {
        for gfn in gfns {
            let entered = g.enter(*gfn, 0, RW)?;
            entered.is(SUCCESS, "H_ENTER was refused")?;
            let found = g.missed(*gfn, Access::Write, 0x4200_0000, State::Privileged);
            if let backend_ppc64::hash::fault::Found::Fault { .. } = found {
                let _ = g.fault(found)?;
            }
            g.call(TableCall::Remove, &[0, entered.r[0], 0]).is(SUCCESS, "the guest's entry is not there")?;
        }
        rounds += 1;
    }
    Ok(())
}

on_guest! {
fn zap(g) {
    let index = g.entered(RW)?;
    let before = g.read(index)?;
    g.memory.discard(g.b.cpu, g.b.m, page(PAGE)?);
    check(g.words(index)?.v & ABSENT != 0 && g.leaf(PAGE).is_none(), "an entry outlived its page")?;
    check(g.read(index)? == before, "the guest's entry is another now")?;
    let found = g.missed(PAGE, Access::Write, 0x4200_0000, State::Privileged);
    check(g.fault(found)? == Outcome::Mapped && g.leaf(PAGE).is_some(), "the page does not come back")
}

fn zap_medium(g) {
    g.touch(0)?;
    let v = g.place(0x25)?.v | backend_ppc64::hash::words::LARGE;
    let index = g.call(TableCall::Enter, &[0, g.slot(0x25)?, v, 0x2_0000 | 7 << 12 | RW]).r[0];
    check(g.words(index)?.is_valid(), "not valid at once")?;
    g.memory.discard(g.b.cpu, g.b.m, page(0x2f)?);
    check(!g.words(index)?.is_valid(), "R18: an entry that reaches the page was not found")?;
    // The host leaf is small now, and the guest wants 64 KiB still.
    let found = g.missed(0x25, Access::Write, 0x4200_0000, State::Privileged);
    check(g.fault(found)? == Outcome::NoSlot && !g.words(index)?.is_valid(), "R11: 64 KiB of small pages")
}

fn zap_marks(g) {
    let index = g.entered(RW)?;
    g.mark(index, R | C);
    g.memory.discard(g.b.cpu, g.b.m, page(PAGE)?);
    check(g.read(index)?.1 & (R | C) == R | C, "R14: the guest's marks went with the page")
}

fn ages(g) {
    let index = g.entered(RW)?;
    check(!used(g, PAGE)?, "nobody used it")?;
    g.mark(index, R);
    check(used(g, PAGE)? && !used(g, PAGE)?, "a use is told once")?;
    check(g.read(index)?.1 & R != 0, "the guest's mark went with ours")?;
    g.mark(index, R);
    check(used(g, PAGE)?, "a later use is told of")
}

fn ages_gone(g) {
    let index = g.entered(RW)?;
    g.mark(index, R);
    g.call(TableCall::Remove, &[0, index, 0]).is(SUCCESS, "an entry is not there")?;
    check(used(g, PAGE)? && !used(g, PAGE)?, "what was used through an entry that has gone is not told of")
}

fn ages_cleared(g) {
    let index = g.entered(RW)?;
    g.mark(index, R);
    g.call(TableCall::ClearRef, &[0, index]).is(SUCCESS, "an entry is not there")?;
    check(used(g, PAGE)? && !used(g, PAGE)?, "what the guest cleared is not told of")
}

fn log(g) {
    check(g.memory.log_start(g.b.cpu, g.b.m).is_ok(), "no memory for a log")?;
    let index = g.entered(RW)?;
    // Touched by the hypervisor, which counts.
    g.memory.log_harvest(g.b.cpu, g.b.m, &mut |_| {});
    check(g.memory.logged(g.b.cpu, g.b.m, page(PAGE)?) == 0, "a harvest leaves pages")?;
    let found = g.missed(PAGE, Access::Read, 0x4000_0000, State::Privileged);
    if found != backend_ppc64::hash::fault::Found::Again {
        check(g.fault(found)? == Outcome::Mapped, "a load was not answered")?;
    }
    check(g.leaf(PAGE).is_some_and(|leaf| !leaf.prot.contains(Prot::WRITE)), "R16: a store would go unnoticed")?;
    g.call(TableCall::Protect, &[2, index, 0]).is(SUCCESS, "an entry is not there")?;
    check(g.leaf(PAGE).is_some_and(|leaf| !leaf.prot.contains(Prot::WRITE)), "R16: H_PROTECT lets a store go unnoticed")?;
    let found = g.missed(PAGE, Access::Write, 0x0a00_0000, State::Privileged);
    check(g.fault(found)? == Outcome::Mapped, "a store was not answered")?;
    check(g.leaf(PAGE).is_some_and(|leaf| leaf.prot == Prot::all()), "the store still faults")?;
    check(g.memory.logged(g.b.cpu, g.b.m, page(PAGE)?) == 1, "R16: the store was not noted")?;
    g.memory.log_stop(g.b.cpu, g.b.m);
    Ok(())
}

fn log_takes(g) {
    // Read-only to the guest, which may change that without a fault.
    let index = g.entered(0x13)?;
    check(g.memory.log_start(g.b.cpu, g.b.m).is_ok(), "no memory for a log")?;
    g.call(TableCall::Protect, &[2, index, 0]).is(SUCCESS, "an entry is not there")?;
    let writable = g.leaf(PAGE).is_some_and(|leaf| leaf.prot.contains(Prot::WRITE));
    g.memory.log_stop(g.b.cpu, g.b.m);
    check(!writable, "R16: a store would go unnoticed")
}

fn race_discard(g) {
    g.touch(PAGE)?;
    let (done, mut run) = (AtomicBool::new(false), Ok(()));
    let range = page(PAGE)?;
    let there = |cpu: &hv_core::epoch::Cpu| {
        for _ in 0..200 {
            g.memory.discard(cpu, g.b.m, range);
            let _ = g.memory.write(cpu, g.b.m, hv_core::addr::Gpa(PAGE << 12), &[1; 8]);
        }
        done.store(true, Ordering::Release);
    };
    if !g.b.rig.both(&there, &mut |_| run = storm(g, &[PAGE], &done)) {
        return Err(Stop::Skip("there is one CPU only"));
    }
    run
}

fn race_put(g) {
    let (slot, v) = (g.slot(PAGE)?, g.place(PAGE)?.v);
    // Entries of both for one page, told apart by their protection; nobody finds them.
    let rounds = |cpu: &hv_core::epoch::Cpu, r: u64| {
        (0..20_000).all(|_| {
            let walk = g.b.m.epoch().enter(cpu);
            let put = g.table.put(g.b.m, &walk, Patience::Endless, Room::InGroupOf(slot), (v, PAGE << 12 | r));
            let Ok(claim) = put else { return false };
            let entry = g.table.lock(g.b.m, &walk, claim.index(), Patience::Endless);
            let Some(mine) = entry.filter(|entry| entry.is_as_claimed(&claim)) else { return false };
            g.table.free(g.b.m, &walk, mine).v == v | VALID
        })
    };
    let (there, mut here) = (AtomicBool::new(true), true);
    let two = g.b.rig.both(&|cpu| there.store(rounds(cpu, RW), Ordering::Release), &mut |cpu| here = rounds(cpu, 0x13));
    if !two {
        return Err(Stop::Skip("there is one CPU only"));
    }
    check(here && there.load(Ordering::Acquire), "R4: two have put an entry in one place")
}

fn race_split(g) {
    g.touch(0)?;
    let (done, mut run) = (AtomicBool::new(false), Ok(()));
    let lonely = page(0x101)?;
    let there = |cpu: &hv_core::epoch::Cpu| {
        for _ in 0..40 {
            // Taking a page splits the leaf, and filling the hole lets it collapse again.
            g.memory.discard(cpu, g.b.m, lonely);
            let _ = g.memory.write(cpu, g.b.m, hv_core::addr::Gpa(0x101 << 12), &[1; 8]);
            let mut cursor = hv_core::host::ScanCursor::default();
            for _ in 0..4 {
                let _ = g.memory.scan(cpu, g.b.m, &mut cursor);
            }
        }
        done.store(true, Ordering::Release);
    };
    if !g.b.rig.both(&there, &mut |_| run = storm(g, &[1, 0x100, HUGE.pages() - 1], &done)) {
        return Err(Stop::Skip("there is one CPU only"));
    }
    run
}
}
