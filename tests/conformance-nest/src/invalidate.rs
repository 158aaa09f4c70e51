//! What L1 or the host takes away, L2 has lost.

use backend_ppc64::nested_host::counts::Event;
use backend_ppc64::nested_host::fault::Answer;
use backend_ppc64::nested_host::tlbie::Reach;
use backend_ppc64::vcpu::exits::NO_TRANSLATION;
use conformance::verdict::{Stop, check};
use hv_core::addr::{Gpa, Order};
use hv_core::isa::{Stage2, Unmapped};
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;
use hv_core::vcpu::exit::Access;

use crate::l1::{ALL, AT, BLOCK, L1, LEAVES, LPID, OTHER_ROOT, PAGE, PROCESSES, R, READ, TABLE, tree};
use crate::{cases, on_l1};

cases! { 17:
    "nest-host-takes-a-page-from-all-its-names", "R9", Never, discarded;
    "nest-host-takes-a-page-of-a-large-leaf", "R9", Always, discarded_of_large;
    "nest-large-leaf-goes-with-all-that-is-derived-of-it", "R18", Always, whole;
    "nest-host-takes-another-page", "G7", Never, another;
    "nest-tlbie-of-one-page", "R9", Never, page;
    "nest-tlbie-of-64k", "R9", Never, medium;
    "nest-tlbie-of-2m", "R9", Always, block;
    "nest-tlbie-of-one-guest", "R9", Never, one;
    "nest-tlbie-of-all-guests", "R9", Never, all;
    "nest-tlbie-of-a-stranger", "R26", Never, stranger;
    "nest-new-tree-by-tlbie", "R9", Never, new_tree;
    "nest-new-tree-by-entry", "R9", Never, new_tree_by_entry;
    "nest-new-process-table-keeps-the-tree", "R9", Never, processes;
    "nest-edit-during-a-fault-is-noticed", "R5", Never, edit;
    "nest-edit-that-l1-keeps-to-itself-is-found-by-a-fault", "G2", Never, unsaid;
    "nest-discard-during-a-fault-is-noticed", "R6", Never, discard_between;
    "nest-l1s-table-comes-back-in-another-frame", "R2", Never, table_moves;
}

/// The instruction of `tlbie` by address, and by partition with everything.
const ADDRESS: u64 = 1 << 16;
const PARTITION: u64 = 2 << 18 | 1 << 16;
const IS_PARTITION: u64 = 2 << 10;
const IS_ALL: u64 = 3 << 10;

on_l1! {
fn discarded(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.map(AT + 9, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    l1.stores(AT + 9, 2)?;
    l1.memory.discard(l1.b.cpu, l1.b.m, L1::<I>::pages(PAGE, 1)?);
    check(l1.leaf(AT).is_none() && l1.leaf(AT + 9).is_none(), "L2 has a page that the host took away")?;
    l1.loads(AT)?;
    check(l1.read(PAGE << 12)? == 0, "what was discarded is back")
}

fn discarded_of_large(l1) {
    l1.map_block(BLOCK, ALL)?;
    l1.stores(BLOCK, 1)?;
    l1.stores(BLOCK + 300, 2)?;
    l1.memory.discard(l1.b.cpu, l1.b.m, L1::<I>::pages(BLOCK + 300, 1)?);
    check(!l1.store(BLOCK + 300, 3), "L2 has a page that the host took away")?;
    l1.stores(BLOCK + 300, 4)?;
    l1.stores(BLOCK, 5)?;
    check(l1.read((BLOCK + 300) << 12)? == 4 && l1.read(BLOCK << 12)? == 5, "a store went elsewhere")
}

fn whole(l1) {
    l1.map(AT, BLOCK + 300, ALL)?;
    l1.stores(AT, 1)?;
    if l1.memory.census(l1.b.cpu, l1.b.m).leaves(Order::MIB2) == 0 {
        return Err(Stop::Skip("the host has no large page for this"));
    }
    // One page is named, and the leaf around it has others.
    let mut batch = FlushBatch::new(l1.memory.tag());
    let (stage2, page) = (l1.memory.stage2(), L1::<I>::pages(BLOCK, 1)?);
    let end = Stage2::<I>::unmap(stage2, l1.b.cpu, l1.b.m, page, &mut batch, None);
    l1.b.m.flush(batch).release(l1.b.cpu, l1.b.m);
    check(end == Unmapped::All && l1.leaf(AT).is_none(), "L2 has a page of a leaf that is gone")?;
    l1.stores(AT, 2)?;
    check(l1.read((BLOCK + 300) << 12)? == 2, "a store went elsewhere")
}

fn another(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.map(AT + 1, PAGE + 1, ALL)?;
    l1.stores(AT, 1)?;
    l1.stores(AT + 1, 2)?;
    l1.memory.discard(l1.b.cpu, l1.b.m, L1::<I>::pages(PAGE + 1, 1)?);
    check(l1.store(AT, 3), "L2 lost a page that nobody took")
}

fn page(l1) {
    for n in 0..3 {
        l1.map(AT + n, PAGE + n, ALL)?;
        l1.stores(AT + n, 1)?;
    }
    l1.put(AT + 1, 0)?;
    l1.invalidate(ADDRESS, LPID.into(), (AT + 1) << 12)?;
    check(l1.store(AT, 2) && !l1.store(AT + 1, 2) && l1.store(AT + 2, 2), "not the page that was named")?;
    check(l1.fault(AT + 1, Access::Read) == Answer::Leave(NO_TRANSLATION), "what L1 took away is still there")
}

fn medium(l1) {
    for n in 14..18 {
        l1.map(n, PAGE + n, ALL)?;
        l1.stores(n, 1)?;
    }
    l1.invalidate(ADDRESS, LPID.into(), 5 << 12 | 5 << 5)?;
    let there = [14, 15, 16, 17].map(|n| l1.leaf(n).is_some());
    check(there == [false, false, true, true], "not the 64 KiB that were named")
}

fn block(l1) {
    l1.map_block(BLOCK, ALL)?;
    l1.stores(BLOCK + 7, 1)?;
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    l1.invalidate(ADDRESS, LPID.into(), (BLOCK + 99) << 12 | 1 << 5)?;
    check(l1.leaf(BLOCK + 7).is_none() && l1.leaf(AT).is_some(), "not the 2 MiB that were named")
}

fn one(l1) {
    // Another L2 on the same tree.
    let other = L1 { held: second(l1)?, ..*l1 };
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    other.stores(AT, 2)?;
    l1.invalidate(PARTITION, LPID.into(), IS_PARTITION)?;
    check(l1.leaf(AT).is_none() && other.leaf(AT).is_some(), "not the L2 that was named")?;
    other.is_a_subset()
}

fn all(l1) {
    let other = L1 { held: second(l1)?, ..*l1 };
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    other.stores(AT, 2)?;
    l1.invalidate(PARTITION, 0, IS_ALL)?;
    check(l1.leaf(AT).is_none() && other.leaf(AT).is_none(), "an L2 was left out")
}

fn stranger(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    for lpid in [0, LPID + 1, u32::MAX] {
        l1.invalidate(PARTITION, lpid.into(), IS_PARTITION)?;
        l1.invalidate(ADDRESS, lpid.into(), AT << 12)?;
    }
    check(l1.store(AT, 2), "another L2's invalidation is this one's")
}

fn new_tree(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    l1.write(TABLE + 16 * u64::from(LPID), tree(OTHER_ROOT))?;
    l1.flush(Reach::One(LPID))?;
    check(!l1.store(AT, 2), "L2 is on a tree that L1 gave up")?;
    check(l1.fault(AT, Access::Read) == Answer::Leave(NO_TRANSLATION), "the new tree is not used")
}

fn new_tree_by_entry(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    l1.write(TABLE + 16 * u64::from(LPID), tree(OTHER_ROOT))?;
    let again = l1.enter(LPID, 0)?;
    check(again == l1.held, "the same L2 has two names")?;
    check(l1.leaf(AT).is_none(), "L2 is on a tree that L1 gave up")
}

fn processes(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.stores(AT, 1)?;
    l1.write(TABLE + 16 * u64::from(LPID) + 8, PROCESSES + 0x1_0000)?;
    l1.enter(LPID, 0)?;
    check(l1.store(AT, 2), "another process table has taken the tree along")
}

fn edit(l1) {
    l1.map(AT, PAGE, ALL)?;
    l1.write(PAGE << 12, 7)?;
    l1.fault(AT, Access::Read);
    l1.invalidate(ADDRESS, LPID.into(), AT << 12)?;
    let before = l1.nest().counts().of(Event::Retry);
    // L1's entry has been read, and is taken away before the answer is published.
    let answer = l1.ask(AT, Access::Read, &|| {
        let _edited = l1.put(AT, 0).and_then(|()| l1.invalidate(ADDRESS, LPID.into(), AT << 12));
    });
    check(answer == Answer::Enter && l1.leaf(AT).is_none(), "L2 has what L1 took away meanwhile")?;
    check(l1.nest().counts().of(Event::Retry) == before + 1, "the fault was not taken again")?;
    check(l1.fault(AT, Access::Read) == Answer::Leave(NO_TRANSLATION), "what L1 took away is back")
}

fn unsaid(l1) {
    l1.map(AT, PAGE, READ | R)?;
    l1.loads(AT)?;
    // Nothing traps, and nothing is said. What L2 may load stays as it was; what it gets by a fault is what L1 has now.
    l1.map(AT, PAGE + 1, ALL)?;
    l1.stores(AT, 5)?;
    check(l1.read((PAGE + 1) << 12)? == 5 && l1.read(PAGE << 12)? == 0, "a store went where L1 pointed before")
}

fn discard_between(l1) {
    l1.map(AT, PAGE, READ | R)?;
    l1.loads(AT)?;
    l1.map(AT + 1, PAGE, READ | R)?;
    let pages = L1::<I>::pages(PAGE, 1)?;
    let answer = l1.ask(AT + 1, Access::Read, &|| l1.memory.discard(l1.b.cpu, l1.b.m, pages));
    check(l1.leaf(AT).is_none() && l1.leaf(AT + 1).is_none(), "L2 has a page that the host took away meanwhile")?;
    check(answer == Answer::Enter, "what was read before is not read again")?;
    let answer = l1.ask(AT + 1, Access::Read, &|| {});
    check(answer == Answer::Parent(Gpa(PAGE << 12), Access::Read), "L1's own fault does not come first")?;
    l1.loads(AT + 1)?;
    check(l1.leaf(AT + 1).is_some_and(|(order, _)| order == Order::PAGE), "no page")
}

fn table_moves(l1) {
    // L1 has its table in its own second stage, so the frame is kept in mind after these.
    l1.touches(LEAVES >> 12)?;
    for n in 0..3 {
        l1.map(AT + n, PAGE + n, ALL)?;
        l1.stores(AT + n, n)?;
    }
    let entry = l1.entry(AT)?;
    l1.memory.discard(l1.b.cpu, l1.b.m, L1::<I>::pages(LEAVES >> 12, 1)?);
    // Other pages take that frame, and those that are free beside it, and have entries there.
    for n in 0..8 {
        l1.write(((PAGE + 100 + n) << 12) + AT * 8, entry)?;
    }
    check(l1.fault(AT, Access::Read) == Answer::Leave(NO_TRANSLATION), "an entry of a frame that was a table's")?;
    l1.touches(LEAVES >> 12)?;
    l1.map(AT + 3, PAGE + 3, ALL)?;
    l1.stores(AT + 3, 9)?;
    check(l1.read((PAGE + 3) << 12)? == 9, "a store went by the table that was there before")
}
}

/// A second L2, on the tree of the first.
fn second<I>(l1: &L1<'_, I>) -> Result<hv_core::isa::VmTag, conformance::verdict::Stop>
where
    I: hv_core::isa::Isa,
    I::Machine: backend_ppc64::nested_host::children::Partitions,
    I::Stage2: backend_ppc64::nested_host::stage2::MayNest,
{
    let from = TABLE + 16 * u64::from(LPID);
    for half in [0, 8] {
        l1.write(from + 16 + half, l1.read(from + half)?)?;
    }
    l1.enter(LPID + 1, 0)
}
