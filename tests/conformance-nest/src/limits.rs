//! How much an L1 may have, and that it gives it back.

use backend_ppc64::nested_host::children::SPARE;
use backend_ppc64::nested_host::fault::Answer;
use backend_ppc64::vcpu::exits::UNSUPPORTED;
use conformance::verdict::{Stop, check};
use hv_core::vcpu::exit::Access;

use crate::l1::{ALL, AT, L1, LPID, PAGE, PROCESSES, TABLE};
use crate::{cases, on_l1};

cases! { 6:
    "nest-guests-are-bounded", "R24", Never, bounded;
    "nest-what-is-held-is-not-evicted", "R20", Never, held;
    "nest-evicted-guest-comes-back-empty", "G6", Never, comes_back;
    "nest-names-are-given-back", "R24", Never, names;
    "nest-emptied-tables-fill-again", "R24", Never, trimmed;
    "nest-emptied-tables-give-frames-back", "R24", Never, frames;
}

/// Makes partitions from `first` on like that of [`LPID`].
fn copies<I>(l1: &L1<'_, I>, first: u32, count: u32) -> conformance::verdict::Run
where
    I: hv_core::isa::Isa,
    I::Machine: backend_ppc64::nested_host::children::Partitions,
    I::Stage2: backend_ppc64::nested_host::stage2::MayNest,
{
    let tree = l1.read(TABLE + 16 * u64::from(LPID))?;
    for lpid in first..first + count {
        l1.write(TABLE + 16 * u64::from(lpid), tree)?;
        l1.write(TABLE + 16 * u64::from(lpid) + 8, PROCESSES)?;
    }
    Ok(())
}

on_l1! {
fn bounded(l1) {
    copies(l1, 20, 40)?;
    for lpid in 20..60 {
        let tag = l1.enter(lpid, 0)?;
        l1.nest().put(tag);
    }
    let most = SPARE + usize::from(crate::VCPUS);
    check(l1.nest().guests() == most, "there are more L2s than L1 may have, or fewer")
}

fn held(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    copies(l1, 20, 40)?;
    for lpid in 20..60 {
        let tag = l1.enter(lpid, 0)?;
        l1.nest().put(tag);
    }
    check(l1.store(AT, 2), "an L2 that a vCPU is in was taken away")?;
    // Held by as many vCPUs as there can be L2s, there is no room for another.
    let most = SPARE + usize::from(crate::VCPUS);
    for lpid in 20..20 + most as u32 - 1 {
        l1.enter(lpid, 0)?;
    }
    check(l1.enter(59, 0) == Err(Stop::Fail("an L2 was refused")), "an L2 that a vCPU is in made room")
}

fn comes_back(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    l1.nest().put(l1.held);
    copies(l1, 20, 40)?;
    for lpid in 20..60 {
        let tag = l1.enter(lpid, 0)?;
        l1.nest().put(tag);
    }
    l1.held = l1.enter(LPID, 0)?;
    check(l1.leaf(AT).is_none(), "a new L2 begins with translations")?;
    l1.stores(AT, 2)?;
    check(l1.read(PAGE << 12)? == 2, "a store went elsewhere")
}

fn names(l1) {
    copies(l1, 20, 60)?;
    // More than there are names.
    for round in 0..10 {
        for lpid in 20..80 {
            let tag = l1.enter(lpid, round)?;
            check(tag != l1.held, "two L2s have one name")?;
            l1.nest().put(tag);
        }
    }
    // Nobody's fault finds nothing.
    let held = core::mem::replace(&mut l1.held, l1.memory.tag());
    check(l1.fault(AT, Access::Read) == Answer::Leave(UNSUPPORTED), "a fault of nobody's was answered")?;
    l1.held = held;
    Ok(())
}

fn trimmed(l1) {
    for n in 0..32 {
        l1.map(AT + n, PAGE + n, ALL)?;
        l1.stores(AT + n, n)?;
    }
    check(l1.nest().trim(l1.b.cpu, l1.b.m, true), "nothing was freed")?;
    check((0..32).all(|n| l1.leaf(AT + n).is_none()), "an emptied table has translations")?;
    for n in 0..32 {
        l1.stores(AT + n, n + 100)?;
        check(l1.read((PAGE + n) << 12)? == n + 100, "a store went elsewhere")?;
    }
    Ok(())
}

fn frames(l1) {
    let root = l1.nest().frames();
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    check(l1.nest().frames() > root, "derived tables take no memory")?;
    check(!l1.nest().trim(l1.b.cpu, l1.b.m, false), "tables within their bounds were emptied")?;
    check(l1.nest().trim(l1.b.cpu, l1.b.m, true) && l1.nest().frames() == root, "a table was kept")
}
}
