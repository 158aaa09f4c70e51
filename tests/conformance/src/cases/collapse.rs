//! Small leaves that become one large one.

use alloc::vec::Vec;

use hv_core::addr::{Order, Pfn};
use hv_core::host::{
    Collapsed, ENOUGH, GIANT, HUGE, HostFormat, HugePolicy, NotCollapsed, NotHuge, ScanCursor, Scanned,
};
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, Outcome};
use hv_core::radix::edit::EditError;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, Transition};
use hv_core::radix::{NotFrozen, Radix};
use hv_core::sync::{AtomicU64, Ordering, spin_loop};
use hv_core::vcpu::exit::Access;

use super::granule::host;
use super::huge::{BLOCK, anon};
use super::split::{fill, holds};
use super::{Case, case, fault, gfns, page};
use crate::guest::{read_word, write_word};
use crate::hold::Hold;
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 11] {
    [
        case!("collapse-a-frozen-table-refuses-everybody", "R3", frozen),
        case!("collapse-thaw-puts-back-what-was", "R4", thawed),
        case!("collapse-a-leaf-in-the-tables-place", "R20", replaced),
        case!("collapse-copies-pages-and-zeroes-holes", "G1", copied),
        case!("collapse-in-place-copies-nothing", "R10", in_place),
        case!("collapse-of-a-sparse-block-is-refused", "R11", sparse),
        case!("collapse-without-a-block-changes-nothing", "P8", no_block),
        case!("collapse-of-a-huge-block-is-refused", "R10", already_huge),
        case!("collapse-asks-the-policy", "R11", policy),
        case!("collapse-to-1-gib-and-back", "G3", giant),
        case!("race-no-write-is-lost-in-a-collapse", "R2", writer),
    ]
}

type Table = Radix<HostFormat>;

fn leaf(n: u64) -> Leaf {
    Leaf { pfn: Pfn(5 * BLOCK + n), prot: Prot::READ, rc: Rc::empty() }
}

/// A table with a leaf at every key of the first block but the last.
fn with_small<I: Isa>(b: &Bench<'_, I>, with: impl FnOnce(&Table) -> Run) -> Run {
    let table = Table::new(b.cpu, b.m).ok_or(Stop::Fail("no memory for a root"))?;
    let mapped = (0..BLOCK - 1).all(|n| table.map(b.m, &b.m.epoch().enter(b.cpu), n, Order::PAGE, leaf(n)).is_ok());
    let run = check(mapped, "a page could not be mapped").and_then(|()| with(&table));
    table.destroy(b.cpu, b.m, |_, _, _| {});
    run
}

fn look<I: Isa>(b: &Bench<'_, I>, table: &Table, key: u64) -> Option<(Pte, Order)> {
    table.walk(b.m, &b.m.epoch().enter(b.cpu), key).map(|seen| (seen.pte, seen.order))
}

fn frozen<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_small(b, |t| {
        let guard = b.m.epoch().enter(b.cpu);
        let frozen = t.freeze(b.m, &guard, 3, HUGE).map_err(|_| Stop::Fail("a table could not be frozen"))?;
        let met = t.walk(b.m, &guard, 3).map(|seen| seen.pte);
        let (taken, hole) =
            (t.map(b.m, &guard, 3, Order::PAGE, leaf(3)), t.map(b.m, &guard, BLOCK - 1, Order::PAGE, leaf(BLOCK - 1)));
        let again = t.freeze(b.m, &guard, 3, HUGE).map(|second| t.thaw(b.m, &guard, second));
        let held = frozen.entries().take(4).eq((0..4).map(|n| Pte::Leaf(leaf(n))));
        t.thaw(b.m, &guard, frozen);
        check(met == Some(Pte::Transition(Transition::Frozen)), "a walk goes through a frozen entry")?;
        check(taken == Err(EditError::Retry), "a frozen leaf was taken for a leaf")?;
        check(hole == Err(EditError::Retry), "a page was put into a frozen hole")?;
        check(again == Err(NotFrozen::InUse), "a table was frozen twice")?;
        check(held, "the entries are not what they were")
    })
}

fn thawed<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_small(b, |t| {
        let frames = t.frames();
        let guard = b.m.epoch().enter(b.cpu);
        check(t.freeze(b.m, &guard, BLOCK, HUGE).is_err(), "a table where there is none")?;
        let frozen = t.freeze(b.m, &guard, 3, HUGE).map_err(|_| Stop::Fail("a table could not be frozen"))?;
        let askew = t.put_leaf(b.m, &guard, &frozen, leaf(1));
        t.thaw(b.m, &guard, frozen);
        drop(guard);
        check(askew.is_none(), "a large leaf off its alignment")?;
        let same = (0..BLOCK - 1).all(|n| look(b, t, n) == Some((Pte::Leaf(leaf(n)), Order::PAGE)));
        check(same && look(b, t, BLOCK - 1) == Some((Pte::Hole, Order::PAGE)), "a thawed table holds something else")?;
        check(t.frames() == frames, "a collapse that was given up cost a frame")
    })
}

fn replaced<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_small(b, |t| {
        let frames = t.frames();
        let guard = b.m.epoch().enter(b.cpu);
        let frozen = t.freeze(b.m, &guard, 3, HUGE).map_err(|_| Stop::Fail("a table could not be frozen"))?;
        let old = t.put_leaf(b.m, &guard, &frozen, leaf(0));
        drop(guard);
        let table = old.ok_or(Stop::Fail("a leaf was refused the table's place"))?;
        let mut batch = hv_core::mmu::flush::FlushBatch::new(crate::rig::FIRST);
        let kept = batch.hold(table).is_ok();
        b.m.flush(batch).release(b.cpu, b.m);
        check(kept && t.frames() + 1 == frames, "the table that made room is not given back")?;
        let whole = Some((Pte::Leaf(leaf(0)), HUGE));
        check(look(b, t, 0) == whole && look(b, t, BLOCK - 1) == whole, "the leaf does not cover the block")
    })
}

/// Advised memory of so many blocks whose first block was touched, page by page, before the advice.
fn with_pages<I: Isa>(b: &Bench<'_, I>, pages: u64, with: impl FnOnce(&GuestMemory<I>) -> Run) -> Run {
    b.with_config(anon(2 * BLOCK, HugePolicy::Advise), |memory| {
        // Downwards, so that no allocator hands them out in the order of a block.
        for n in (0..pages).rev() {
            fill(b, memory, n..n + 1)?;
        }
        memory.advise(b.cpu, b.m, gfns(0, BLOCK)?);
        with(memory)
    })
}

fn copied<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_pages(b, ENOUGH + 3, |memory| {
        check(fault(b, memory, page(1), Access::Write) == Outcome::Mapped, "no page")?;
        let (before, tables) = (b.free(), memory.stats().tables);
        let seen = memory.scan(b.cpu, b.m, &mut ScanCursor::default());
        check(seen == Scanned::Collapsed(HUGE, Collapsed::Copied), "a block that is half there was not collapsed")?;
        let stats = memory.stats();
        check((stats.resident, stats.huge, stats.collapses) == (BLOCK, 1, 1), "the accounts are wrong")?;
        holds(b, memory, 0..BLOCK, ENOUGH + 3..BLOCK)?;
        let used = BLOCK.saturating_sub(ENOUGH + 3);
        check(b.free() + used + stats.tables == before + tables, "the old frames or their table were lost")?;
        check(fault(b, memory, page(1), Access::Write) == Outcome::Mapped, "a collapsed page cannot be mapped")
    })
}

fn in_place<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(BLOCK, HugePolicy::Always), |memory| {
        fill(b, memory, 0..BLOCK)?;
        memory.discard(b.cpu, b.m, gfns(7, 1)?);
        let before = b.free();
        fill(b, memory, 7..8)?;
        check(memory.stats().huge == 0, "a first touch closed a table")?;
        let tables = memory.stats().tables;
        let seen = memory.scan(b.cpu, b.m, &mut ScanCursor::default());
        holds(b, memory, 0..BLOCK, 0..0)?;
        check(memory.stats().huge == 1, "a whole block was not collapsed")?;
        match seen {
            // The allocator gave another frame than the one that was just given back.
            Scanned::Collapsed(_, Collapsed::Copied) => Ok(()),
            Scanned::Collapsed(_, Collapsed::InPlace) => {
                check(b.free() + 1 + memory.stats().tables == before + tables, "it cost a frame")
            }
            Scanned::Kept(_) | Scanned::Round => check(false, "a whole block was kept"),
        }
    })
}

fn sparse<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_pages(b, ENOUGH - 1, |memory| {
        let mut cursor = ScanCursor::default();
        let seen = memory.scan(b.cpu, b.m, &mut cursor);
        check(seen == Scanned::Kept(NotCollapsed::Sparse), "a block that is mostly empty was collapsed")?;
        let seen = memory.scan(b.cpu, b.m, &mut cursor);
        check(seen == Scanned::Kept(NotCollapsed::NotHuge(NotHuge::Policy)), "a block that nobody advised")?;
        check(memory.scan(b.cpu, b.m, &mut cursor) == Scanned::Round, "a scan goes on beyond the last block")?;
        check(memory.stats().resident == ENOUGH - 1, "a scan brought pages")
    })
}

fn no_block<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_pages(b, BLOCK, |memory| {
        let hold = Hold::all_but(b.cpu, b.m.frames(), 16);
        let seen = memory.scan(b.cpu, b.m, &mut ScanCursor::default());
        drop(hold);
        check(seen == Scanned::Kept(NotCollapsed::NoBlock), "a block out of nothing")?;
        check(memory.stats().huge == 0, "a collapse that failed left a trace")?;
        holds(b, memory, 0..BLOCK, 0..0)
    })
}

fn already_huge<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(BLOCK, HugePolicy::Always), |memory| {
        fill(b, memory, 0..1)?;
        let seen = memory.scan(b.cpu, b.m, &mut ScanCursor::default());
        check(seen == Scanned::Kept(NotCollapsed::NotHuge(NotHuge::AlreadyHuge)), "a huge block was collapsed again")
    })
}

fn policy<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(BLOCK, HugePolicy::Never), |memory| {
        fill(b, memory, 0..BLOCK)?;
        let seen = memory.scan(b.cpu, b.m, &mut ScanCursor::default());
        check(seen == Scanned::Kept(NotCollapsed::NotHuge(NotHuge::Policy)), "a block where there are to be none")
    })
}

/// Runs `then` with so many 2 MiB blocks out of the way that the next ones to be had lie in one 1 GiB block, in order.
fn in_order<I: Isa>(b: &Bench<'_, I>, then: impl FnOnce() -> Run) -> Run {
    let frames = b.m.frames();
    let mut held = Vec::new();
    let found = loop {
        let Some(block) = frames.alloc(b.cpu, HUGE) else { break false };
        let first = block.pfn();
        // The first of 1 GiB may be one of fewer: of memory that ends within it.
        let rest = (BLOCK..GIANT.pages()).step_by(BLOCK as usize).map(|n| first.checked_add(n));
        if first.is_aligned(GIANT) && rest.flatten().all(|next| frames.is_free(next)) {
            frames.free(b.cpu, block);
            break true;
        }
        if held.try_reserve(1).is_err() {
            frames.free(b.cpu, block);
            break false;
        }
        held.push(block);
    };
    let run = if found { then() } else { Err(Stop::Skip("needs 1 GiB in one piece")) };
    for block in held {
        frames.free(b.cpu, block);
    }
    run
}

fn giant<I: Isa>(b: &Bench<'_, I>) -> Run {
    in_order(b, || b.with_config(anon(GIANT.pages(), HugePolicy::Always), |memory| giant_in(b, memory)))
}

fn giant_in<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>) -> Run {
    for n in (0..GIANT.pages()).step_by(BLOCK as usize) {
        fill(b, memory, n..n + 1)?;
    }
    let at = |n| host(b, memory, n).map(|found| found.pfn);
    // The allocator owes nobody an order, and tables may have broken the first block up.
    let first = at(0);
    let follows = |n| at(n).zip(first).is_some_and(|(pfn, first)| pfn.since(first) == Some(n));
    if !(0..GIANT.pages()).step_by(BLOCK as usize).all(follows) {
        return Err(Stop::Skip("needs 512 blocks in a row"));
    }
    let mut cursor = ScanCursor::default();
    let mut seen = Scanned::Round;
    for _ in 0..GIANT.pages() / BLOCK {
        seen = memory.scan(b.cpu, b.m, &mut cursor);
    }
    check(seen == Scanned::Collapsed(GIANT, Collapsed::InPlace), "512 blocks in a row did not become one")?;
    let stats = memory.stats();
    check((stats.giant, stats.huge, stats.resident) == (1, 0, GIANT.pages()), "the accounts are wrong")?;
    check(fault(b, memory, page(3 * BLOCK + 1), Access::Write) == Outcome::Mapped, "no page")?;
    memory.discard(b.cpu, b.m, gfns(5 * BLOCK + 1, 1)?);
    let stats = memory.stats();
    check((stats.giant, stats.huge, stats.splits) == (0, 511, 2), "1 GiB did not split twice")?;
    for n in (0..GIANT.pages()).step_by(BLOCK as usize) {
        holds(b, memory, n..n + 1, 0..0)?;
    }
    holds(b, memory, 5 * BLOCK + 1..5 * BLOCK + 2, 0..GIANT.pages())
}

/// One CPU counts in a word of the block, another splits and collapses the block under it.
fn writer<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(BLOCK, HugePolicy::Always), |memory| {
        fill(b, memory, 0..BLOCK)?;
        write_word(memory, b.cpu, b.m, page(9), 0)?;
        let stop = AtomicU64::new(0);
        let lost = AtomicU64::new(0);
        let mut here = Ok(());
        let ran = b.rig.both(
            &|cpu| {
                let mut count = 0;
                while stop.load(Ordering::Acquire) == 0 || count < 8 {
                    let read = read_word(memory, cpu, b.m, page(9));
                    lost.fetch_add(u64::from(read != Ok(count)), Ordering::Relaxed);
                    count += 1;
                    let wrote = write_word(memory, cpu, b.m, page(9), count).is_ok();
                    lost.fetch_add(u64::from(!wrote), Ordering::Relaxed);
                    spin_loop();
                }
            },
            &mut |cpu| {
                here = (|| {
                    for n in 0..24 {
                        memory.discard(cpu, b.m, gfns(64 + n, 1)?);
                        // The page comes back, in another frame than those around it as often as not.
                        write_word(memory, cpu, b.m, page(65 + n), 1)?;
                        write_word(memory, cpu, b.m, page(64 + n), 1)?;
                        memory.scan(cpu, b.m, &mut ScanCursor::default());
                    }
                    Ok(())
                })();
                stop.store(1, Ordering::Release);
            },
        );
        if !ran {
            return Err(Stop::Skip("needs two CPUs"));
        }
        here?;
        check(memory.stats().collapses != 0, "nothing was collapsed")?;
        check(lost.load(Ordering::Relaxed) == 0, "a write was lost while its block was split and collapsed")
    })
}
