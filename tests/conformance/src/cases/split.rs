//! Large leaves that give way to smaller ones: the step on the table itself, and what taking part of a block away makes
//! of it.

use hv_core::addr::Order;
use hv_core::addr::Pfn;
use hv_core::host::{GIANT, HUGE, HostFormat, HugePolicy};
use hv_core::isa::{Isa, Stage2};
use hv_core::machine::Machine;
use hv_core::mmu::Outcome;
use hv_core::radix::edit::EditError;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc};
use hv_core::radix::{Radix, Split};
use hv_core::vcpu::exit::Access;

use super::huge::{BLOCK, anon};
use super::{Case, case, fault, gfns, page};
use crate::hold::Hold;
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 7] {
    [
        case!("split-keeps-frames-and-rights", "R3", table_split),
        case!("split-without-a-table-changes-nothing", "P8", table_starved),
        case!("split-by-a-partial-discard", "G3", partial),
        case!("split-at-both-edges-of-one-block", "R7", both_edges),
        case!("split-leaves-no-large-translation", "R12", no_large_translation),
        case!("split-that-finds-no-table-zeroes-in-place", "P8", starved),
        case!("split-block-comes-back-whole", "R24", comes_back),
    ]
}

type Table = Radix<HostFormat>;

fn with_leaf<I: Isa>(b: &Bench<'_, I>, order: Order, with: impl FnOnce(&Table, Leaf) -> Run) -> Run {
    let table = Table::new(b.cpu, b.m).ok_or(Stop::Fail("no memory for a root"))?;
    let leaf = Leaf { pfn: Pfn(order.pages() * 3), prot: Prot::READ.union(Prot::EXEC), rc: Rc::CHANGED };
    let mapped = table.map(b.m, &b.m.epoch().enter(b.cpu), 0, order, leaf).is_ok();
    let run = check(mapped, "a large leaf could not be mapped").and_then(|()| with(&table, leaf));
    table.destroy(b.cpu, b.m, |_, _, _| {});
    run
}

fn look<I: Isa>(b: &Bench<'_, I>, table: &Table, key: u64) -> Option<(Pte, Order)> {
    table.walk(b.m, &b.m.epoch().enter(b.cpu), key).map(|seen| (seen.pte, seen.order))
}

fn table_split<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_leaf(b, GIANT, |t, leaf| {
        let frames = t.frames();
        let guard = b.m.epoch().enter(b.cpu);
        let at = 5 * BLOCK + 7;
        let split = |wanted| t.split(b.m, &guard, at, wanted);
        check(split(HUGE) == Ok(Split::Done { large: GIANT, small: HUGE }), "1 GiB did not split into 2 MiB")?;
        check(split(HUGE) == Ok(Split::Nothing), "a leaf of the wanted size was split")?;
        check(split(Order::PAGE) == Ok(Split::Done { large: HUGE, small: Order::PAGE }), "2 MiB did not split")?;
        check(split(Order::PAGE) == Ok(Split::Nothing), "a page was split")?;
        drop(guard);
        check(t.frames() == frames + 2, "a split's tables are not counted")?;
        for key in [0, 4 * BLOCK + 3, 5 * BLOCK, 5 * BLOCK + 511, 6 * BLOCK, GIANT.pages() - 1] {
            let small = if key / BLOCK == 5 { Order::PAGE } else { HUGE };
            let pfn = Pfn(leaf.pfn.0 + small.align_down(key));
            let found = look(b, t, key) == Some((Pte::Leaf(Leaf { pfn, ..leaf }), small));
            check(found, "after a split another frame, other rights or another size")?;
        }
        Ok(())
    })
}

fn table_starved<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_leaf(b, HUGE, |t, leaf| {
        let hold = Hold::everything(b.cpu, b.m.frames());
        let starved = t.split(b.m, &b.m.epoch().enter(b.cpu), 3, Order::PAGE);
        drop(hold);
        check(starved == Err(EditError::NoTable), "a table out of nothing")?;
        check(look(b, t, 3) == Some((Pte::Leaf(leaf), HUGE)), "a split that failed left a trace")
    })
}

/// Fills page `n` with `n + 1`.
pub(super) fn fill<I: Isa>(
    b: &Bench<'_, I>,
    memory: &hv_core::mmu::GuestMemory<I>,
    pages: core::ops::Range<u64>,
) -> Run {
    for n in pages {
        let wrote = memory.write(b.cpu, b.m, page(n), &(n + 1).to_le_bytes()).is_ok();
        check(wrote, "RAM cannot be written")?;
    }
    Ok(())
}

/// Checks that page `n` holds `n + 1`, or zero if it lies in `gone`.
pub(super) fn holds<I: Isa>(
    b: &Bench<'_, I>,
    memory: &hv_core::mmu::GuestMemory<I>,
    pages: core::ops::Range<u64>,
    gone: core::ops::Range<u64>,
) -> Run {
    for n in pages {
        let mut bytes = [0xff; 8];
        let read = memory.read(b.cpu, b.m, page(n), &mut bytes).is_ok();
        let expected = if gone.contains(&n) { 0 } else { n + 1 };
        check(read && u64::from_le_bytes(bytes) == expected, "too much or too little is gone")?;
    }
    Ok(())
}

fn partial<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(2 * BLOCK, HugePolicy::Always), |memory| {
        fill(b, memory, 0..2 * BLOCK)?;
        check(memory.stats().huge == 2, "no blocks")?;
        let before = b.free();
        // Under the checkers a block is two pages, and nothing of this is run.
        let from = BLOCK.saturating_sub(3);
        memory.discard(b.cpu, b.m, gfns(from, 7)?);
        holds(b, memory, 0..2 * BLOCK, from..from.saturating_add(7))?;
        let stats = memory.stats();
        let small = (stats.resident, stats.huge, stats.splits);
        check(small.0 + 7 == 2 * BLOCK && (small.1, small.2) == (0, 2), "the accounts after a split are wrong")?;
        check(b.free() == before + 7 - 2, "seven frames for two tables were not the bargain")
    })
}

fn both_edges<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(BLOCK, HugePolicy::Always), |memory| {
        fill(b, memory, 0..BLOCK)?;
        memory.discard(b.cpu, b.m, gfns(10, 20)?);
        holds(b, memory, 0..BLOCK, 10..30)?;
        check(memory.stats().splits == 1, "one block was split more than once")?;
        memory.discard(b.cpu, b.m, gfns(0, BLOCK)?);
        check(memory.stats().resident == 0, "discarded pages are resident")
    })
}

fn no_large_translation<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(BLOCK, HugePolicy::Always), |memory| {
        check(fault(b, memory, page(40), Access::Write) == Outcome::Mapped, "no page")?;
        memory.discard(b.cpu, b.m, gfns(3, 1)?);
        // The pages beside it may be mapped again; the one that went may not be reachable through them.
        check(fault(b, memory, page(2), Access::Write) == Outcome::Mapped, "no page")?;
        let gone = memory.stage2().lookup(b.cpu, b.m, page(3).page());
        check(!matches!(gone, Pte::Leaf(_)), "a discarded page is translated by its neighbour's leaf")
    })
}

fn starved<I: Isa>(b: &Bench<'_, I>) -> Run {
    let range = gfns(BLOCK - 2, 5)?;
    b.with_config(anon(2 * BLOCK, HugePolicy::Always), |memory| {
        fill(b, memory, 0..2 * BLOCK)?;
        let hold = Hold::everything(b.cpu, b.m.frames());
        memory.discard(b.cpu, b.m, range);
        drop(hold);
        holds(b, memory, 0..2 * BLOCK, BLOCK - 2..BLOCK + 3)?;
        let stats = memory.stats();
        check((stats.resident, stats.zeroed, stats.splits) == (2 * BLOCK, 5, 0), "the accounts are wrong")
    })
}

fn comes_back<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(BLOCK, HugePolicy::Always), |memory| {
        let before = (b.free(), memory.stats().tables);
        fill(b, memory, 0..BLOCK)?;
        // Every second page first, then the rest.
        for n in (0..BLOCK).step_by(2) {
            memory.discard(b.cpu, b.m, gfns(n, 1)?);
        }
        memory.discard(b.cpu, b.m, gfns(0, BLOCK)?);
        check(memory.stats().resident == 0, "discarded pages are resident")?;
        check(b.free() + memory.stats().tables == before.0 + before.1, "frames of a split block were lost")?;
        fill(b, memory, 0..1)?;
        check(memory.stats().huge == 1, "after a split and a discard there is no block to be had")
    })
}
