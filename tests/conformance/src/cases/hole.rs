//! RAM that goes on above a hole in the guest's addresses.
//!
//! It is one piece to the host. So a block there may be seen on both sides of the hole, or askew: neither is anything to the
//! guest but smaller translations.

use hv_core::addr::{GfnRange, Order};
use hv_core::host::{HUGE, HugePolicy};
use hv_core::isa::Isa;
use hv_core::mmu::{GuestMemory, MemoryConfig, Outcome};
use hv_core::vcpu::exit::Access;
use hv_core::vcpu::services::MemError;

use super::dirty::start;
use super::huge::anon;
use super::{Case, case, fault, gfns, page, wants_blocks};
use crate::guest::{ProbeVm, read_word, write_word};
use crate::probe::Op;
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 5] {
    [
        case!("hole-is-no-memory", "R17", no_memory),
        case!("hole-blocks-above-it-are-large", "R11", blocks_above),
        case!("hole-through-a-block", "R17", through_a_block),
        case!("hole-dirty-pages-are-told-where-the-guest-sees-them", "R16", dirty),
        case!("hole-guest-stores-on-both-sides", "G2", guest_stores),
    ]
}

const BLOCK: u64 = HUGE.pages();

/// Three blocks of RAM, of which what does not fit below the hole lies behind it.
fn around<I: Isa>(start: u64, pages: u64) -> Result<MemoryConfig<I>, Stop> {
    Ok(MemoryConfig { hole: Some(gfns(start, pages)?), ..anon(3 * BLOCK, HugePolicy::Always) })
}

fn no_memory<I: Isa>(b: &Bench<'_, I>) -> Run {
    let (below, above) = (2 * BLOCK - 1, 4 * BLOCK);
    b.with_config(around(2 * BLOCK, 2 * BLOCK)?, |memory| {
        for outside in [below + 1, above - 1, above + BLOCK] {
            let outcome = fault(b, memory, page(outside), Access::Read);
            check(outcome == Outcome::NoSlot, "a fault where there is no RAM was answered")?;
            let read = memory.read(b.cpu, b.m, page(outside), &mut [0; 8]);
            check(read == Err(MemError::BadAddress), "what is no RAM can be read")?;
        }
        let across = hv_core::addr::Gpa(page(below + 1).0 - 4);
        check(memory.write(b.cpu, b.m, across, &[1; 8]) == Err(MemError::BadAddress), "a write into the hole")?;
        check(memory.stats().resident == 0, "RAM was touched")?;
        for at in [below, above, above + BLOCK - 1] {
            write_word(memory, b.cpu, b.m, page(at), at)?;
        }
        check(memory.stats().resident == 2 * BLOCK, "two blocks were written to")?;
        for at in [below, above, above + BLOCK - 1] {
            check(read_word(memory, b.cpu, b.m, page(at))? == at, "the pages on the two sides are one")?;
        }
        memory.discard(b.cpu, b.m, gfns(0, 8 * BLOCK)?);
        check(memory.stats().resident == 0, "what lies above the hole was not given back")
    })
}

fn blocks_above<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(around(BLOCK, 3 * BLOCK)?, |memory| {
        wants_blocks(b, memory)?;
        for n in [0, 4 * BLOCK + 5, 5 * BLOCK + 7] {
            check(fault(b, memory, page(n), Access::Write) == Outcome::Mapped, "a fault on RAM was not answered")?;
        }
        check(memory.stats().huge == 3, "three blocks, and not three large leaves of the host")?;
        check(memory.census(b.cpu, b.m).leaves(HUGE) == 3, "a block above the hole is not mapped large")
    })
}

/// The hole begins in the middle of a block and ends askew, so that no block above it is a block of the host's.
fn through_a_block<I: Isa>(b: &Bench<'_, I>) -> Run {
    let (below, above) = (BLOCK + 40, 3 * BLOCK - 3);
    b.with_config(around(below, above - below)?, |memory| {
        wants_blocks(b, memory)?;
        for (n, at) in [0, BLOCK, below - 1, above, above + BLOCK - 41, above + 2 * BLOCK - 41].into_iter().enumerate()
        {
            check(fault(b, memory, page(at), Access::Write) == Outcome::Mapped, "a fault on RAM was not answered")?;
            write_word(memory, b.cpu, b.m, page(at), n as u64 + 1)?;
        }
        check(memory.stats().resident == 3 * BLOCK, "three blocks were written to")?;
        let census = memory.census(b.cpu, b.m);
        check(census.leaves(HUGE) == 1, "a large translation reaches over the hole's edge, or lies askew")?;
        check(census.leaves(Order::PAGE) > 0, "no page of a block that is cut in two is mapped")?;
        memory.discard(b.cpu, b.m, gfns(above, 1)?);
        let left = [(below - 1, 3), (above, 0), (above + BLOCK - 41, 5)];
        for (at, value) in left {
            check(read_word(memory, b.cpu, b.m, page(at))? == value, "the wrong page of a cut block went")?;
        }
        Ok(())
    })
}

/// What a harvest tells, each page by its own.
fn told<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>) -> [Option<u64>; 4] {
    let (mut pages, mut n) = ([None; 4], 0);
    memory.log_harvest(b.cpu, b.m, &mut |run: GfnRange| {
        for gfn in run.start().0..run.end().0 {
            if let Some(place) = pages.get_mut(n) {
                (*place, n) = (Some(gfn), n + 1);
            }
        }
    });
    pages.sort_unstable();
    pages
}

fn dirty<I: Isa>(b: &Bench<'_, I>) -> Run {
    let (below, above) = (BLOCK + 40, 3 * BLOCK - 3);
    b.with_config(around(below, above - below)?, |memory| {
        start(b, memory)?;
        for at in [below - 1, above, above + BLOCK] {
            check(fault(b, memory, page(at), Access::Write) == Outcome::Mapped, "a fault on RAM was not answered")?;
            write_word(memory, b.cpu, b.m, page(at), 1)?;
        }
        let want = [None, Some(below - 1), Some(above), Some(above + BLOCK)];
        check(told(b, memory) == want, "pages around the hole are told elsewhere, or others")?;
        check(told(b, memory) == [None; 4], "a page that was harvested is told again")
    })
}

fn guest_stores<I: Isa>(b: &Bench<'_, I>) -> Run {
    let above = 4 * BLOCK;
    ProbeVm::with_config(b, around(BLOCK, 3 * BLOCK)?, |vm| {
        for at in [BLOCK - 1, above, above + 2 * BLOCK - 1] {
            check(vm.ask(b, Op::Write, page(at), at)?.fine, "a store raised an exception")?;
        }
        for at in [BLOCK - 1, above, above + 2 * BLOCK - 1] {
            let there = read_word(&vm.memory, b.cpu, b.m, page(at))?;
            check(there == at, "the guest's store went elsewhere")?;
        }
        Ok(())
    })
}
