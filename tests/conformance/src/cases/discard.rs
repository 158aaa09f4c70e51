//! Giving memory back while the VM lives.

use hv_core::isa::{Isa, Stage2};
use hv_core::mmu::Outcome;
use hv_core::radix::format::Pte;
use hv_core::vcpu::exit::Access;

use super::{Case, case, fault, gfns, page};
use crate::probe::{FREE, RAM_PAGES};
use crate::rig::Bench;
use crate::verdict::{Run, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 5] {
    [
        case!("discard-reads-zero-afterwards", "R8", reads_zero),
        case!("discard-empties-stage-2", "R8", empties_stage2),
        case!("discard-gives-frames-and-tables-back", "R20", gives_back),
        case!("discard-only-what-was-named", "R7", only_named),
        case!("discard-beyond-ram-does-nothing", "R17", beyond_ram),
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
