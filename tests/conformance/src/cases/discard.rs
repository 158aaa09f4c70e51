//! Giving memory back while the VM lives.

use hv_core::host::HugePolicy;
use hv_core::isa::{Isa, Stage2};
use hv_core::mmu::Outcome;
use hv_core::radix::format::Pte;
use hv_core::sync::{AtomicU32, Mutex, Ordering};
use hv_core::vcpu::exit::Access;

use super::huge::{BLOCK, anon};
use super::split::{fill, holds};
use super::{Case, case, fault, gfns, page};
use crate::guest::{read_word, write_word};
use crate::probe::{FREE, RAM_PAGES};
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 7] {
    [
        case!("discard-reads-zero-afterwards", "R8", reads_zero),
        case!("discard-empties-stage-2", "R8", empties_stage2),
        case!("discard-gives-frames-and-tables-back", "R20", gives_back),
        case!("discard-only-what-was-named", "R7", only_named),
        case!("discard-beyond-ram-does-nothing", "R17", beyond_ram),
        case!("discard-by-whole-tables", "R20", whole_tables),
        case!("race-first-touches-against-whole-tables", "R24", touched_meanwhile),
    ]
}

fn reads_zero<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for round in 0..3 {
            let mut bytes = [0xff; 8];
            check(
                memory.read(b.cpu, b.m, page(FREE), &mut bytes).is_ok() && bytes == [0; 8],
                "discarded memory is not zero",
            )?;
            check(memory.write(b.cpu, b.m, page(FREE), &[round + 1; 8]).is_ok(), "RAM cannot be written")?;
            memory.discard(b.cpu, b.m, gfns(FREE, 1)?);
            check(memory.stats().resident == 0, "a discarded page counts as resident")?;
        }
        Ok(())
    })
}

fn empties_stage2<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for n in 0..8 {
            check(fault(b, memory, page(FREE + n), Access::Write) == Outcome::Mapped, "no page")?;
        }
        memory.discard(b.cpu, b.m, gfns(FREE, 8)?);
        for n in 0..8 {
            let left = memory.stage2().lookup(b.cpu, b.m, page(FREE + n).page());
            check(!matches!(left, Pte::Leaf(_)), "a discarded page is still mapped")?;
        }
        check(fault(b, memory, page(FREE), Access::Write) == Outcome::Mapped, "a discarded page cannot come back")
    })
}

fn gives_back<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let before = (b.free(), memory.stats().tables);
        for n in 0..RAM_PAGES {
            check(fault(b, memory, page(n), Access::Write) == Outcome::Mapped, "no page")?;
        }
        check(memory.stats().resident == RAM_PAGES, "resident memory is miscounted")?;
        let used = before.0.checked_sub(b.free());
        let counted = RAM_PAGES + memory.stats().tables - before.1;
        check(used == Some(counted), "the accounts differ from the allocator's")?;
        memory.discard(b.cpu, b.m, gfns(0, RAM_PAGES)?);
        check(memory.stats().resident == 0, "discarded pages count as resident")?;
        let tables = memory.stats().tables - before.1;
        check(b.free() + tables == before.0, "discarded frames did not come back")
    })
}

fn only_named<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for n in 0..4 {
            check(memory.write(b.cpu, b.m, page(FREE + n), &[n as u8 + 1; 8]).is_ok(), "RAM cannot be written")?;
        }
        memory.discard(b.cpu, b.m, gfns(FREE + 1, 2)?);
        for n in 0..4 {
            let mut bytes = [0xff; 8];
            let expected = if n == 1 || n == 2 { 0 } else { n as u8 + 1 };
            let read = memory.read(b.cpu, b.m, page(FREE + n), &mut bytes).is_ok();
            check(read && bytes == [expected; 8], "too much or too little was discarded")?;
        }
        Ok(())
    })
}

fn beyond_ram<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        check(memory.write(b.cpu, b.m, page(RAM_PAGES - 1), &[7; 8]).is_ok(), "RAM cannot be written")?;
        memory.discard(b.cpu, b.m, gfns(RAM_PAGES, 1 << 30)?);
        memory.discard(b.cpu, b.m, gfns(1 << 51, 1 << 60)?);
        check(memory.stats().resident == 1, "memory outside the range was discarded")?;
        memory.discard(b.cpu, b.m, gfns(RAM_PAGES - 1, 1 << 40)?);
        check(memory.stats().resident == 0, "the part inside RAM was not discarded")
    })
}

/// Two whole tables, a part of one before them and of one after: what is beside them stays.
fn whole_tables<I: Isa>(b: &Bench<'_, I>) -> Run {
    let gone = BLOCK - 3..3 * BLOCK + 3;
    b.with_config(anon(4 * BLOCK, HugePolicy::Never), |memory| {
        let before = b.free() + memory.stats().tables;
        // Every page of the first table, and of the second here and there, so that runs and single frames come back.
        fill(b, memory, BLOCK - 5..2 * BLOCK)?;
        for n in (2 * BLOCK..3 * BLOCK + 5).step_by(3) {
            fill(b, memory, n..n + 1)?;
            check(fault(b, memory, page(n), Access::Write) == Outcome::Mapped, "no page")?;
        }
        let (held, tables) = (memory.stats().resident, b.free());
        memory.discard(b.cpu, b.m, gfns(gone.start, gone.end - gone.start)?);
        let stats = memory.stats();
        // Two pages before what went; after it, at most every third of two.
        let beside = 2 + (gone.end..3 * BLOCK + 5).filter(|n| n % 3 == 2 * BLOCK % 3).count() as u64;
        check(stats.resident == beside, "discarded pages are resident, or others are not")?;
        check(b.free() + stats.tables + stats.resident == before, "the accounts differ from the allocator's")?;
        check(b.free() >= tables + held - beside + 2, "the tables did not come back")?;
        holds(b, memory, BLOCK - 5..2 * BLOCK, gone)?;
        fill(b, memory, 2 * BLOCK..2 * BLOCK + 1)?;
        check(memory.stats().resident == beside + 1, "a page cannot come back where a table went")
    })
}

/// Pages are touched in the very tables that go. Whoever touched them finds what it wrote, or zeros; no frame is lost.
fn touched_meanwhile<I: Isa>(b: &Bench<'_, I>) -> Run {
    const ROUNDS: u64 = 24;
    b.with_config(anon(2 * BLOCK, HugePolicy::Never), |memory| {
        let before = b.free() + memory.stats().tables;
        let over = AtomicU32::new(0);
        let (mut here, there) = (Ok(()), Mutex::new(Ok(())));
        let ran = b.rig.both(
            &|cpu| {
                let touch = |n: u64| {
                    let at = page(n % (2 * BLOCK));
                    write_word(memory, cpu, b.m, at, n + 1)?;
                    let word = read_word(memory, cpu, b.m, at)?;
                    check(word == n + 1 || word == 0, "G1: a page holds what nobody wrote there")
                };
                // A stride that comes to every page of both tables.
                for n in (0..).step_by(7) {
                    let done = touch(n);
                    if done.is_err() || over.load(Ordering::Acquire) == 1 {
                        *there.lock() = done;
                        return;
                    }
                }
            },
            &mut |cpu| {
                for _ in 0..ROUNDS {
                    match gfns(0, 2 * BLOCK) {
                        Ok(all) => memory.discard(cpu, b.m, all),
                        Err(error) => here = Err(error),
                    }
                }
                over.store(1, Ordering::Release);
            },
        );
        if !ran {
            return Err(Stop::Skip("needs two CPUs"));
        }
        here?;
        there.into_inner()?;
        memory.discard(b.cpu, b.m, gfns(0, 2 * BLOCK)?);
        let stats = memory.stats();
        check(stats.resident == 0, "discarded pages are resident")?;
        check(b.free() + stats.tables == before, "frames were lost with the tables")
    })
}
