//! Reference and change bits: L1's, its parent's, and the dirty log while L2 stores.

use backend_ppc64::nested_host::fault::Answer;
use backend_ppc64::vcpu::exits::SET_RC;
use conformance::verdict::{Run, Stop, check};
use hv_core::addr::{Hvn, HvnRange};
use hv_core::machine::Machine;
use hv_core::mmu::age;
use hv_core::radix::format::Rc;
use hv_core::vcpu::exit::Access;

use crate::l1::{ALL, AT, C, L1, PAGE, R, READ, WRITE};
use crate::{cases, on_l1};

cases! { 12:
    "nest-guest-sets-its-own-r", "R15", Never, guests_r;
    "nest-guest-sets-its-own-c", "R15", Never, guests_c;
    "nest-load-then-store", "G5", Never, load_then_store;
    "nest-dirty-log-knows-what-was-stored", "G4", Never, logged;
    "nest-dirty-start-takes-rights-away", "R15", Never, start;
    "nest-dirty-harvest-takes-rights-away", "R15", Never, harvest;
    "nest-dirty-load-is-no-store", "G4", Never, no_store;
    "nest-dirty-large-leaves-break-up", "R11", Always, large;
    "nest-dirty-ten-rounds", "G4", Never, rounds;
    "nest-age-tells-what-was-used", "G5", Never, ages;
    "nest-age-takes-leaves-away", "R15", Never, aged;
    "nest-harvest-before-publication-is-noticed", "R15", Never, between;
}

/// Pages of L1's RAM, a bit each.
type Set = [u64; (crate::l1::PAGES / 64) as usize];

fn add(set: &mut Set, page: u64) {
    if let Some(word) = set.get_mut((page / 64) as usize) {
        *word |= 1 << (page % 64);
    }
}

fn start_log<I>(l1: &L1<'_, I>) -> Run
where
    I: hv_core::isa::Isa,
    I::Machine: backend_ppc64::nested_host::children::Partitions,
    I::Stage2: backend_ppc64::nested_host::stage2::MayNest,
{
    check(l1.memory.log_start(l1.b.cpu, l1.b.m).is_ok(), "the dirty log does not start")
}

/// A harvest tells of these pages from [`PAGE`] on, and of no other there.
fn tells<I>(l1: &L1<'_, I>, pages: &[u64], otherwise: &'static str) -> Run
where
    I: hv_core::isa::Isa,
    I::Machine: backend_ppc64::nested_host::children::Partitions,
    I::Stage2: backend_ppc64::nested_host::stage2::MayNest,
{
    let (mut told, mut wanted) = (Set::default(), Set::default());
    l1.memory.log_harvest(l1.b.cpu, l1.b.m, &mut |pages| {
        (pages.start().0..pages.end().0).filter(|page| *page >= PAGE).for_each(|page| add(&mut told, page));
    });
    pages.iter().for_each(|page| add(&mut wanted, *page));
    check(told == wanted, otherwise)
}

/// What a look tells of, from [`PAGE`] on: how many pages, and the first.
fn look<I>(l1: &L1<'_, I>) -> Result<(usize, Option<u64>), Stop>
where
    I: hv_core::isa::Isa,
    I::Machine: backend_ppc64::nested_host::children::Partitions,
    I::Stage2: backend_ppc64::nested_host::stage2::MayNest,
{
    let slot = l1.memory.space().slots.find(&l1.b.m.epoch().enter(l1.b.cpu), hv_core::addr::Gfn(0));
    let ram = slot.and_then(|slot| slot.hvn(hv_core::addr::Gfn(0))).ok_or(Stop::Fail("RAM is in no slot"))?;
    let range = ram.checked_add(PAGE).and_then(|at| HvnRange::new(at, 64)).ok_or(Stop::Fail("no range"))?;
    let mut seen = (0, None);
    age(l1.b.cpu, l1.b.m, l1.memory.space(), range, &mut |at: Hvn, _| {
        seen = (seen.0 + 1, seen.1.or(at.since(ram)));
    });
    Ok(seen)
}

on_l1! {
fn guests_r(l1) {
    l1.map(AT, PAGE, READ | WRITE)?;
    check(l1.fault(AT, Access::Read) == Answer::Leave(SET_RC), "L1 is not asked for its R")?;
    l1.map(AT, PAGE, READ | WRITE | R)?;
    l1.loads(AT)
}

fn guests_c(l1) {
    l1.map(AT, PAGE, READ | WRITE | R)?;
    l1.loads(AT)?;
    check(!l1.store(AT, 1), "L2 stored without L1's C")?;
    check(l1.fault(AT, Access::Write) == Answer::Leave(SET_RC), "L1 is not asked for its C")?;
    l1.map(AT, PAGE, READ | WRITE | R | C)?;
    l1.stores(AT, 1)
}

fn load_then_store(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.loads(AT)?;
    l1.stores(AT, 3)?;
    let parent = l1.parent(PAGE).map(|leaf| leaf.rc);
    check(parent == Some(Rc::all()), "the parent does not know of the store")
}

fn logged(l1) {
    start_log(l1)?;
    for n in [0, 3, 4, 40] {
        l1.map(AT + n, PAGE + n, ALL)?;
        l1.stores(AT + n, n)?;
    }
    tells(l1, &[PAGE, PAGE + 3, PAGE + 4, PAGE + 40], "the log is not what L2 stored")?;
    tells(l1, &[], "a page is told of twice")
}

fn start(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    start_log(l1)?;
    check(!l1.store(AT, 2), "L2 stores unnoticed after the log was turned on")?;
    l1.stores(AT, 3)?;
    tells(l1, &[PAGE], "a store is missing")
}

fn harvest(l1) {
    start_log(l1)?;
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    tells(l1, &[PAGE], "a store is missing")?;
    check(!l1.store(AT, 2), "L2 stores unnoticed after a harvest")?;
    check(l1.leaf(AT).is_some(), "a harvest takes more than rights")?;
    l1.stores(AT, 3)?;
    tells(l1, &[PAGE], "the second store is missing")
}

fn no_store(l1) {
    l1.write(PAGE << 12, 1)?;
    start_log(l1)?;
    l1.map(AT, PAGE, ALL)?;
    l1.loads(AT)?;
    tells(l1, &[], "a load is told of as a store")
}

fn large(l1) {
    l1.map_block(crate::l1::BLOCK, ALL)?;
    l1.stores(crate::l1::BLOCK, 1)?;
    start_log(l1)?;
    check(!l1.store(crate::l1::BLOCK + 9, 2), "L2 stores unnoticed through a large leaf")?;
    l1.stores(crate::l1::BLOCK + 9, 3)?;
    l1.stores(crate::l1::BLOCK + 17, 3)?;
    tells(l1, &[crate::l1::BLOCK + 9, crate::l1::BLOCK + 17], "not the pages that were stored to")
}

fn rounds(l1) {
    start_log(l1)?;
    for n in 0..64 {
        l1.map(AT + n, PAGE + n, ALL)?;
    }
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..10 {
        let mut wanted = heapless::Vec::<u64, 64>::new();
        for n in 0..64 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            match random >> 62 {
                0 => l1.loads(AT + n)?,
                1 => {
                    l1.stores(AT + n, round)?;
                    check(wanted.push(PAGE + n).is_ok(), "more pages than there are")?;
                }
                _ => {}
            }
        }
        tells(l1, &wanted, "a round's harvest is not what was stored in it")?;
        l1.is_a_subset()?;
    }
    Ok(())
}

fn ages(l1) {
    l1.map(AT, PAGE + 2, ALL)?;
    l1.map(AT + 1, PAGE + 5, ALL)?;
    look(l1)?;
    l1.loads(AT)?;
    check(look(l1)? == (1, Some(PAGE + 2)), "what L2 used is not what is told")?;
    check(look(l1)? == (0, None), "a use is told of twice")?;
    l1.stores(AT, 1)?;
    check(look(l1)? == (1, Some(PAGE + 2)), "a use after a look is not told")
}

fn aged(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    look(l1)?;
    check(l1.leaf(AT).is_none_or(|(_, leaf)| !leaf.rc.contains(Rc::REFERENCED)), "R is still there after a look")?;
    l1.stores(AT, 2)?;
    check(l1.read(PAGE << 12)? == 2, "a store is lost")
}

fn between(l1) {
    start_log(l1)?;
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    // L2 faults for another name of the page, and the page is harvested before it is answered.
    l1.map(AT + 1, PAGE, ALL)?;
    let told = core::cell::Cell::new(false);
    let answer = l1.ask(AT + 1, Access::Write, &|| told.set(tells(l1, &[PAGE], "").is_ok()));
    check(told.get(), "the harvest misses the first store")?;
    check(answer != Answer::Enter || !l1.store(AT + 1, 2), "L2 got the rights of before the harvest")?;
    l1.stores(AT + 1, 3)?;
    tells(l1, &[PAGE], "the store after the harvest is missing")
}
}
