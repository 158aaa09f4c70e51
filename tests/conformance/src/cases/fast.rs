//! The fast path of a fault: it answers, or has changed nothing.

use hv_core::addr::{Gpa, HvnRange};
use hv_core::context::Atomic;
use hv_core::host::{HUGE, HugePolicy};
use hv_core::isa::{Isa, Stage2};
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::fast::{Fast, fast};
use hv_core::mmu::zap::{invalidate, rewindow};
use hv_core::mmu::{GuestMemory, MemoryStats, Outcome};
use hv_core::radix::format::{Prot, Pte};
use hv_core::vcpu::exit::{Access, Fault};

use super::huge::anon;
use super::{Case, case, fault, gfns, page, size_at};
use crate::hold::Hold;
use crate::probe::{FREE, RAM_PAGES};
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 8] {
    [
        case!("fast-answers-what-is-there", "R6", answers),
        case!("fast-defers-a-hole", "R21", hole),
        case!("fast-defers-a-missing-table", "R21", no_table),
        case!("fast-defers-inside-a-bracket", "R6", bracket),
        case!("fast-defers-where-no-slot-is", "R17", no_slot),
        case!("fast-defers-what-a-slot-forbids", "R25", forbidden),
        case!("fast-answers-with-a-block", "R11", block),
        case!("fast-takes-no-frame", "R21", no_frame),
    ]
}

/// The fast path for a fault at `at`.
fn try_fast<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, at: Gpa, access: Access) -> Fast {
    let claim = b.rig.claim(memory.stage2(), at, size_at(b, memory, at));
    fast(Atomic::on(b.cpu), b.m, memory.space(), &Fault { gpa: at, access, claim })
}

/// All of a VM that can be seen from here.
#[derive(Debug, PartialEq)]
struct Seen {
    translations: u64,
    stats: MemoryStats,
    free: u64,
}

fn seen<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, pages: u64) -> Seen {
    let number = |n: u64| match memory.stage2().lookup(b.cpu, b.m, page(n).page()) {
        Pte::Leaf(leaf) => leaf.pfn.0 << 4 | u64::from(leaf.prot.bits()) << 1 | 1,
        Pte::Hole => 0,
        Pte::Table { .. } => 2,
        Pte::Transition(_) => 4,
        Pte::Swapped(_) => 5,
    };
    // FNV-1a, by words.
    let translations =
        (0..pages).map(number).fold(0xcbf2_9ce4_8422_2325, |h: u64, n| (h ^ n).wrapping_mul(0x100_0000_01b3));
    Seen { translations, stats: memory.stats(), free: b.free() }
}

/// The fast path defers, and what can be seen of the VM is as before, the sequence included.
fn defers<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, at: Gpa, access: Access, pages: u64) -> Run {
    let (before, seq) = (seen(b, memory, pages), memory.space().mmu.sample());
    check(try_fast(b, memory, at, access) == Fast::Defer, "answered out of turn")?;
    check(seen(b, memory, pages) == before, "a deferral has changed something")?;
    let outside = HvnRange::new(hv_core::addr::Hvn(0), 1).ok_or(Stop::Fail("no range"))?;
    let section = memory.space().mmu.enter(b.cpu, b.m.epoch());
    check(section.revalidate(seq, outside).is_ok(), "a deferral has raised the sequence")
}

fn answers<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for n in 0..4 {
            check(memory.write(b.cpu, b.m, page(FREE + n), &[1; 8]).is_ok(), "RAM cannot be written")?;
        }
        check(fault(b, memory, page(FREE), Access::Write) == Outcome::Mapped, "no page")?;
        let free = b.free();
        for (n, access) in [(1, Access::Read), (2, Access::Write), (3, Access::Fetch)] {
            check(try_fast(b, memory, page(FREE + n), access) == Fast::Done, "a page that is there was deferred")?;
            let before = memory.stage2().lookup(b.cpu, b.m, page(FREE + n).page());
            check(matches!(before, Pte::Leaf(leaf) if leaf.prot == Prot::all()), "answered without a translation")?;
            check(fault(b, memory, page(FREE + n), access) == Outcome::Mapped, "no page")?;
            let after = memory.stage2().lookup(b.cpu, b.m, page(FREE + n).page());
            check(before == after, "the slow path would have answered otherwise")?;
        }
        check(b.free() == free, "an answer out of what is there cost a frame")
    })
}

fn hole<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        check(fault(b, memory, page(FREE), Access::Write) == Outcome::Mapped, "no page")?;
        defers(b, memory, page(FREE + 1), Access::Write, RAM_PAGES)?;
        check(fault(b, memory, page(FREE + 1), Access::Write) == Outcome::Mapped, "the slow path has no page either")
    })
}

fn no_table<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        check(memory.write(b.cpu, b.m, page(FREE), &[1; 8]).is_ok(), "RAM cannot be written")?;
        let tables = memory.stats().tables;
        if try_fast(b, memory, page(FREE), Access::Read) == Fast::Done {
            // A hashed second stage has all its tables from the start.
            return check(memory.stats().tables == tables, "the fast path made a table");
        }
        defers(b, memory, page(FREE), Access::Read, RAM_PAGES)?;
        check(fault(b, memory, page(FREE), Access::Read) == Outcome::Mapped, "the slow path has no page either")?;
        check(memory.stats().tables > tables, "it was no table that was missing")
    })
}

fn bracket<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        check(fault(b, memory, page(FREE), Access::Write) == Outcome::Mapped, "no page")?;
        let slot = memory.space().slots.find(&b.m.epoch().enter(b.cpu), page(FREE).page());
        let hvn = slot.and_then(|slot| slot.hvn(page(FREE).page())).ok_or(Stop::Fail("RAM is in no slot"))?;
        let range = HvnRange::new(hvn, 1).ok_or(Stop::Fail("no range"))?;
        invalidate(b.cpu, b.m, memory.space(), range, |_| defers(b, memory, page(FREE), Access::Write, RAM_PAGES))?;
        check(fault(b, memory, page(FREE), Access::Write) == Outcome::Mapped, "no page after the bracket")
    })
}

fn no_slot<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for at in [page(RAM_PAGES), page(1 << 40), Gpa(u64::MAX)] {
            defers(b, memory, at, Access::Read, RAM_PAGES)?;
        }
        Ok(())
    })
}

fn forbidden<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for n in 0..2 {
            check(fault(b, memory, page(FREE + n), Access::Write) == Outcome::Mapped, "no page")?;
        }
        let slot = memory.space().slots.find(&b.m.epoch().enter(b.cpu), page(0).page());
        let base = slot.and_then(|slot| slot.hvn(page(0).page())).ok_or(Stop::Fail("RAM is in no slot"))?;
        let slot = Slot::new(gfns(0, RAM_PAGES)?, base, Prot::READ).map_err(|_| Stop::Fail("no slot"))?;
        check(rewindow(b.cpu, b.m, memory.space(), &[slot]).is_ok(), "a window was refused")?;
        check(fault(b, memory, page(FREE), Access::Read) == Outcome::Mapped, "no page")?;
        defers(b, memory, page(FREE), Access::Write, RAM_PAGES)?;
        defers(b, memory, page(FREE + 1), Access::Write, RAM_PAGES)?;
        check(try_fast(b, memory, page(FREE + 1), Access::Read) == Fast::Done, "a page to read was deferred")
    })
}

fn block<I: Isa>(b: &Bench<'_, I>) -> Run {
    let block = HUGE.pages();
    b.with_config(anon(2 * block, HugePolicy::Always), |memory| {
        // The first block's fault brings the tables of both.
        for n in [0, block] {
            check(memory.write(b.cpu, b.m, page(n), &[1; 8]).is_ok(), "RAM cannot be written")?;
        }
        check(memory.stats().huge == 2, "no blocks")?;
        check(fault(b, memory, page(5), Access::Write) == Outcome::Mapped, "no page")?;
        check(try_fast(b, memory, page(block + 5), Access::Write) == Fast::Done, "a block that is there was deferred")?;
        let leaf = |n| match memory.stage2().lookup(b.cpu, b.m, page(n).page()) {
            Pte::Leaf(_) => true,
            Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => false,
        };
        check(leaf(block + 5) && leaf(block + 6) == leaf(6), "the slow path would have mapped another size")
    })
}

fn no_frame<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for n in 0..2 {
            check(memory.write(b.cpu, b.m, page(FREE + n), &[1; 8]).is_ok(), "RAM cannot be written")?;
        }
        check(fault(b, memory, page(FREE), Access::Write) == Outcome::Mapped, "no page")?;
        let hold = Hold::everything(b.cpu, b.m.frames());
        let done = try_fast(b, memory, page(FREE + 1), Access::Write);
        drop(hold);
        check(done == Fast::Done, "what is there cannot be mapped without free memory")
    })
}
