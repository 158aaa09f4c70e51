//! The dirty log and large blocks.

use hv_core::addr::{GfnRange, Order};
use hv_core::host::{HUGE, HugePolicy, ScanCursor, Scanned};
use hv_core::isa::Isa;
use hv_core::mmu::{GuestMemory, MemoryConfig};

use super::dirty::start;
use super::{Case, case, gfns, page};
use crate::guest::{ProbeVm, read_word, write_word};
use crate::probe::Op;
use crate::rig::Bench;
use crate::verdict::{Run, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 5] {
    [
        case!("dirty-a-block-is-told-page-by-page", "R11", page_by_page),
        case!("dirty-the-rest-of-a-block-is-still-read", "R10", still_read),
        case!("dirty-stop-brings-large-leaves-back", "R11", recovers),
        case!("dirty-a-split-is-no-store", "R16", split),
        case!("dirty-a-collapse-is-no-store", "R16", collapsed),
    ]
}

const BLOCK: u64 = HUGE.pages();

/// A VM of three blocks, of which the last two are mapped large where it is ours to say. The guest's own pages are in the
/// first.
fn with_blocks<I: Isa>(b: &Bench<'_, I>, with: impl FnOnce(&ProbeVm<I>) -> Run) -> Run {
    let config = MemoryConfig { huge: HugePolicy::Always, ..MemoryConfig::from((3 * BLOCK) << 12) };
    ProbeVm::with_config(b, config, |vm| {
        for block in 1..3 {
            check(vm.ask(b, Op::Write, page(block * BLOCK), block)?.fine, "a store raised an exception")?;
        }
        with(vm)
    })
}

/// Translations of this size in the last two blocks.
fn leaves<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, order: Order) -> u64 {
    memory.census(b.cpu, b.m).leaves(order)
}

/// A harvest has to tell of exactly these pages of the last two blocks.
fn tells<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, pages: &[u64], otherwise: &'static str) -> Run {
    let (mut known, mut told) = (true, 0);
    memory.log_harvest(b.cpu, b.m, &mut |run: GfnRange| {
        for n in run.start().0.max(BLOCK)..run.end().0 {
            known &= pages.contains(&n);
            told += 1;
        }
    });
    check(known && told == pages.len(), otherwise)
}

fn page_by_page<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_blocks(b, |vm| {
        start(b, &vm.memory)?;
        let wrote = [BLOCK + 5, BLOCK + 6, 2 * BLOCK - 1, 3 * BLOCK - 1];
        for n in wrote {
            check(vm.ask(b, Op::Write, page(n), n)?.fine, "a store raised an exception")?;
        }
        // Had the first store made all of the block writable, this one would go unnoticed.
        tells(b, &vm.memory, &wrote, "not told page by page")?;
        check(vm.ask(b, Op::Write, page(BLOCK + 7), 1)?.fine, "a store raised an exception")?;
        check(vm.ask(b, Op::Write, page(BLOCK + 5), 1)?.fine, "a store raised an exception")?;
        tells(b, &vm.memory, &[BLOCK + 5, BLOCK + 7], "not told page by page")?;
        for n in [BLOCK + 6, 2 * BLOCK - 1, 3 * BLOCK - 1] {
            check(read_word(&vm.memory, b.cpu, b.m, page(n))? == n, "a store was lost")?;
        }
        check(vm.memory.stats().splits == 0, "the log split the host's leaves")
    })
}

/// Nobody has to fault for what was mapped and is only read, nor for its neighbours once a page has been stored to.
fn still_read<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_blocks(b, |vm| {
        // Where the guest chooses sizes it has chosen small ones.
        if leaves(b, &vm.memory, HUGE) == 0 {
            return Ok(());
        }
        start(b, &vm.memory)?;
        let large = leaves(b, &vm.memory, HUGE);
        check(vm.ask(b, Op::Write, page(BLOCK + 5), 7)?.fine, "a store raised an exception")?;
        if large == 0 {
            // Hardware notes stores: the leaves are made anew, small, from the start.
            return check(leaves(b, &vm.memory, HUGE) == 0, "a large leaf while the log is on");
        }
        let small = leaves(b, &vm.memory, Order::PAGE);
        check(small >= BLOCK && leaves(b, &vm.memory, HUGE) < large, "a block with a stored-to page is not whole")?;
        for n in [0, 4, 6, BLOCK - 1] {
            check(vm.ask(b, Op::Read, page(BLOCK + n), 0)?.fine, "a load raised an exception")?;
        }
        check(leaves(b, &vm.memory, Order::PAGE) == small, "the rest of the block had to be mapped again")?;
        tells(b, &vm.memory, &[BLOCK + 5], "what was only read was told")
    })
}

fn recovers<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_blocks(b, |vm| {
        let large = leaves(b, &vm.memory, HUGE);
        for _ in 0..2 {
            start(b, &vm.memory)?;
            for n in [0, 7, BLOCK, BLOCK + 9] {
                check(vm.ask(b, Op::Write, page(BLOCK + n), n + 1)?.fine, "a store raised an exception")?;
            }
            vm.memory.log_stop(b.cpu, b.m);
            for n in [7, BLOCK + 9] {
                check(vm.ask(b, Op::Read, page(BLOCK + n), 0)?.result == n + 1, "a store was lost")?;
                check(vm.ask(b, Op::Write, page(BLOCK + n), n)?.fine, "a store raised an exception")?;
            }
            check(leaves(b, &vm.memory, HUGE) >= large.min(2), "large leaves did not come back")?;
        }
        Ok(())
    })
}

/// A page of a large block is taken away, so that the host splits its leaf.
fn split<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_blocks(b, |vm| {
        start(b, &vm.memory)?;
        check(vm.ask(b, Op::Write, page(BLOCK + 5), 5)?.fine, "a store raised an exception")?;
        vm.memory.discard(b.cpu, b.m, gfns(BLOCK + 9, 1)?);
        check(vm.ask(b, Op::Read, page(BLOCK + 6), 0)?.fine, "a load raised an exception")?;
        tells(b, &vm.memory, &[BLOCK + 5, BLOCK + 9], "a split counts as a store, or hides one")?;
        check(vm.ask(b, Op::Write, page(BLOCK + 6), 6)?.fine, "a store raised an exception")?;
        tells(b, &vm.memory, &[BLOCK + 6], "a store went unnoticed after a split")
    })
}

/// A block's pages are put together in other frames.
fn collapsed<I: Isa>(b: &Bench<'_, I>) -> Run {
    let config = MemoryConfig { huge: HugePolicy::Advise, ..MemoryConfig::from((2 * BLOCK) << 12) };
    ProbeVm::with_config(b, config, |vm| {
        for n in 0..BLOCK {
            write_word(&vm.memory, b.cpu, b.m, page(BLOCK + n), n)?;
        }
        start(b, &vm.memory)?;
        check(vm.ask(b, Op::Write, page(BLOCK + 5), 7)?.fine, "a store raised an exception")?;
        vm.memory.advise(b.cpu, b.m, gfns(BLOCK, BLOCK)?);
        let mut cursor = ScanCursor::default();
        let mut steps = core::iter::from_fn(|| match vm.memory.scan(b.cpu, b.m, &mut cursor) {
            Scanned::Round => None,
            step @ (Scanned::Collapsed(..) | Scanned::Kept(_)) => Some(step),
        });
        check(steps.any(|step| matches!(step, Scanned::Collapsed(..))), "a full block was not collapsed")?;
        check(vm.ask(b, Op::Read, page(BLOCK + 6), 0)?.result == 6, "a page was lost")?;
        tells(b, &vm.memory, &[BLOCK + 5], "a move counts as a store, or hides one")?;
        check(vm.ask(b, Op::Write, page(BLOCK + 6), 7)?.fine, "a store raised an exception")?;
        tells(b, &vm.memory, &[BLOCK + 6], "a store went unnoticed after a move")
    })
}
