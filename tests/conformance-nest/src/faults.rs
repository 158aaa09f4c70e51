//! L2's faults: by L1's tree and L1's second stage, or by neither.

use backend_ppc64::nested_host::fault::Answer;
use backend_ppc64::vcpu::exits::{NO_TRANSLATION, PROTECTION, UNSUPPORTED};
use conformance::verdict::check;
use hv_core::addr::Order;
use hv_core::radix::format::Prot;
use hv_core::vcpu::exit::Access;

use crate::l1::{ALL, AT, BLOCK, C, EXEC, L1, PAGE, PAGES, R, READ, WRITE};
use crate::{cases, on_l1};

cases! { 16:
    "nest-load-by-both-tables", "G2", Never, load;
    "nest-store-reaches-the-guests-memory", "G2", Never, store;
    "nest-first-touch-needs-the-parent-first", "R15", Never, parent_first;
    "nest-one-fault-where-both-have-it", "R15", Never, one_fault;
    "nest-hole-is-for-the-guest", "R15", Never, hole;
    "nest-rights-are-both-tables", "R15", Never, rights;
    "nest-no-store-without-the-guests-leave", "R15", Never, no_store;
    "nest-no-fetch-without-the-guests-leave", "R15", Never, no_fetch;
    "nest-malformed-tables-are-for-the-guest", "R26", Never, malformed;
    "nest-tables-outside-of-memory-are-for-the-guest", "R26", Never, outside;
    "nest-page-outside-of-memory-is-nowhere", "R26", Never, nowhere;
    "nest-address-beyond-every-tree", "R26", Never, beyond;
    "nest-64k-page-serves-page-by-page", "R11", Never, medium;
    "nest-2m-where-both-allow", "R11", Always, large;
    "nest-2m-not-where-the-parent-has-pages", "R11", Never, large_by_one;
    "nest-2m-not-where-the-guest-has-pages", "R11", Always, small_by_one;
}

on_l1! {
fn load(l1) {
    l1.write(PAGE << 12, 0x1234)?;
    l1.map(AT, PAGE, ALL)?;
    l1.loads(AT)?;
    let (order, leaf) = l1.leaf(AT).ok_or(conformance::verdict::Stop::Fail("there is no leaf"))?;
    let parent = l1.parent(PAGE);
    check(order == Order::PAGE && parent.is_some_and(|parent| parent.pfn == leaf.pfn), "L2 has another frame")
}

fn store(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 0xfeed)?;
    check(l1.read(PAGE << 12)? == 0xfeed, "what L2 stored is not in L1's memory")
}

fn parent_first(l1) {
    l1.map(AT, PAGE, ALL)?;
    let asked = l1.ask(AT, Access::Write, &|| {});
    check(asked == Answer::Parent(hv_core::addr::Gpa(PAGE << 12), Access::Write), "L1's own fault does not come first")?;
    check(l1.leaf(AT).is_none(), "L2 has what L1 has not")?;
    l1.stores(AT, 1)
}

fn one_fault(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    // L1's second stage has the page now: another name of it takes one fault.
    l1.map(AT + 1, PAGE, ALL)?;
    check(l1.ask(AT + 1, Access::Write, &|| {}) == Answer::Enter, "more than one fault")?;
    check(l1.store(AT + 1, 2) && l1.read(PAGE << 12)? == 2, "two names of one page are two pages")
}

fn hole(l1) {
    check(l1.fault(AT, Access::Read) == Answer::Leave(NO_TRANSLATION), "a hole is not L1's affair")?;
    l1.put(AT, !(1 << 63))?;
    check(l1.fault(AT, Access::Read) == Answer::Leave(NO_TRANSLATION), "an entry that is not valid was used")
}

fn rights(l1) {
    for (bits, prot) in [(READ, Prot::READ), (READ | EXEC, Prot::READ | Prot::EXEC), (READ | WRITE, Prot::READ | Prot::WRITE)] {
        l1.map(AT, PAGE, bits | R | C)?;
        l1.invalidate(2 << 18 | 1 << 16, crate::l1::LPID.into(), 2 << 10)?;
        l1.loads(AT)?;
        let mine = l1.leaf(AT).map(|(_, leaf)| leaf.prot);
        check(mine.is_some_and(|mine| prot.contains(mine)), "L2 may do what L1 does not allow")?;
    }
    Ok(())
}

fn no_store(l1) {
    l1.map(AT, PAGE, R | C | READ | EXEC)?;
    l1.loads(AT)?;
    check(!l1.store(AT, 1), "L2 stored where L1 forbids it")?;
    check(l1.fault(AT, Access::Write) == Answer::Leave(PROTECTION), "a forbidden store is not L1's affair")
}

fn no_fetch(l1) {
    l1.map(AT, PAGE, R | C | READ | WRITE)?;
    check(l1.fault(AT, Access::Fetch) == Answer::Leave(PROTECTION), "a forbidden fetch is not L1's affair")?;
    l1.map(AT, PAGE, ALL)?;
    check(l1.fault(AT, Access::Fetch) == Answer::Enter, "a fetch is not answered")
}

fn malformed(l1) {
    for word in [L1::<I>::leaves(8), L1::<I>::leaves(0), L1::<I>::leaves(31), L1::<I>::leaves(9) | 0x800] {
        l1.third(word)?;
        check(l1.fault(AT, Access::Read) == Answer::Leave(UNSUPPORTED), "a table of no known form was used")?;
    }
    l1.third(L1::<I>::leaves(9))?;
    l1.map(AT, PAGE, ALL)?;
    l1.loads(AT)
}

fn outside(l1) {
    // A table of leaves right behind RAM, and far away.
    for at in [PAGES << 12, 1 << 50] {
        l1.third(1 << 63 | at | 9)?;
        check(l1.fault(AT, Access::Read) == Answer::Leave(UNSUPPORTED), "a table outside of memory was read")?;
    }
    Ok(())
}

fn nowhere(l1) {
    l1.map(AT, PAGES, ALL)?;
    let answer = l1.fault(AT, Access::Write);
    check(answer == Answer::Parent(hv_core::addr::Gpa(PAGES << 12), Access::Write), "there is something behind RAM")?;
    check(l1.leaf(AT).is_none(), "L2 has memory that L1 has not")
}

fn beyond(l1) {
    check(l1.fault(1 << 40, Access::Read) == Answer::Leave(NO_TRANSLATION), "there is an address beyond 52 bits")?;
    check(l1.fault(u64::MAX >> 12, Access::Write) == Answer::Leave(NO_TRANSLATION), "there is an address beyond 52 bits")
}

fn medium(l1) {
    l1.third(L1::<I>::leaves(5))?;
    // Entry 0 is for L2's first 16 pages.
    l1.map(0, 304, ALL)?;
    for page in [0, 9, 15] {
        l1.stores(page, page + 77)?;
        check(l1.read((304 + page) << 12)? == page + 77, "a page of 64 KiB lies elsewhere")?;
        check(l1.leaf(page).is_some_and(|(order, _)| order == Order::PAGE), "a leaf of a size that hardware has not")?;
    }
    Ok(())
}

fn large(l1) {
    l1.map_block(BLOCK, ALL)?;
    l1.stores(BLOCK + 3, 9)?;
    check(l1.read((BLOCK + 3) << 12)? == 9, "a block lies elsewhere")?;
    let order = l1.leaf(BLOCK + 3).map(|(order, _)| order);
    // Only where the host has a large page itself.
    let host = l1.memory.census(l1.b.cpu, l1.b.m).leaves(Order::MIB2) != 0;
    check(order == Some(if host { Order::MIB2 } else { Order::PAGE }), "the leaf is not as large as it may be")?;
    check(!host || l1.store(BLOCK + 200, 10) && l1.read((BLOCK + 200) << 12)? == 10, "one fault did not serve the block")
}

fn large_by_one(l1) {
    l1.map_block(BLOCK, ALL)?;
    l1.stores(BLOCK + 3, 9)?;
    check(l1.leaf(BLOCK + 3).is_some_and(|(order, _)| order == Order::PAGE), "a leaf larger than the parent's")
}

fn small_by_one(l1) {
    l1.map(AT, BLOCK + AT, ALL)?;
    l1.stores(AT, 9)?;
    check(l1.leaf(AT).is_some_and(|(order, _)| order == Order::PAGE), "a leaf larger than L1's")
}
}
