//! Memory that comes and goes in runs of more than a page.

use alloc::sync::Arc;

use hv_core::addr::{Gfn, GfnRange, Order};
use hv_core::epoch::Cpu;
use hv_core::host::{Collapsed, HUGE, HostPage, HugePolicy, Peek, ScanCursor, Scanned};
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::memslot::{Slot, SlotError};
use hv_core::mmu::zap::rewindow;
use hv_core::mmu::{GuestMemory, MemoryConfig, MemoryError, Outcome, Window};
use hv_core::page::Store;
use hv_core::radix::format::Prot;
use hv_core::sync::{AtomicBool, Ordering, spin_loop};
use hv_core::vcpu::exit::Access;

use super::huge::{BLOCK, anon};
use super::split::{fill, holds};
use super::swap::{empty, packed, stats};
use super::swap_short::random;
use super::tmpfs::{shown, with_object};
use super::{Case, case, fault, gfns, page};
use crate::guest::{ProbeVm, read_word, write_word};
use crate::hold::Hold;
use crate::probe::Op;
use crate::rig::{Bench, FIRST};
use crate::store::Heap;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 14] {
    [
        case!("granule-a-first-touch-brings-a-run", "R11", first_touch),
        case!("granule-a-run-has-aligned-frames-side-by-side", "G3", side_by_side),
        case!("granule-is-refused-what-does-not-fit-it", "R17", refused),
        case!("granule-a-large-leaf-splits-at-runs", "G3", split),
        case!("granule-a-part-of-a-run-is-zeroed-where-it-is", "R24", part),
        case!("granule-runs-are-swapped-whole-and-come-back-whole", "R11", swap),
        case!("granule-a-run-that-the-store-refuses-in-part-stays", "P8", refused_in_part),
        case!("granule-a-run-that-does-not-pack-is-not-tried-again", "P8", noise),
        case!("granule-a-part-of-a-kept-run-is-forgotten", "R24", part_of_kept),
        case!("granule-one-used-page-keeps-its-run", "R15", used),
        case!("granule-small-runs-are-copied-together", "R10", collapse),
        case!("granule-no-run-is-broken-by-a-collapse", "R11", no_copy),
        case!("granule-without-a-run-of-frames-there-is-no-page", "P8", no_frames),
        case!("race-runs-come-and-go-whole", "R3", race),
    ]
}

/// The sizes of runs that are tried: 64 KiB, less than a huge block, and 16 MiB, more.
const SIZES: [u8; 2] = [4, 12];

/// Anonymous memory of so many pages in runs of this size.
fn in_runs<I: Isa>(pages: u64, run: Order, huge: HugePolicy) -> Result<MemoryConfig<I>, Stop> {
    if !I::GRANULES {
        return Err(Stop::Skip("memory of this machine comes in single pages"));
    }
    Ok(MemoryConfig { granule: run, ..anon(pages, huge) })
}

fn each<I: Isa>(b: &Bench<'_, I>, runs: u64, huge: HugePolicy, with: impl Fn(&GuestMemory<I>, Order) -> Run) -> Run {
    for size in SIZES {
        let run = Order::new(size).ok_or(Stop::Fail("no such size"))?;
        b.with_config(in_runs(runs * run.pages().max(BLOCK), run, huge)?, |memory| with(memory, run))?;
    }
    Ok(())
}

/// The host page behind page `n` of the guest.
pub(super) fn host<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, n: u64) -> Option<HostPage> {
    look(b.m, b.cpu, memory, n).ok().flatten()
}

/// The same, with what there may be in its place.
fn look<I: Isa>(m: &I::Machine, cpu: &Cpu, memory: &GuestMemory<I>, n: u64) -> Result<Option<HostPage>, Peek> {
    let guard = m.epoch().enter(cpu);
    let hvn = memory.space().slots.find(&guard, Gfn(n)).and_then(|slot| slot.hvn(Gfn(n)));
    match memory.space().host.peek(m, &guard, hvn.ok_or(Peek::OutOfReach)?) {
        Peek::Page(found) => Ok(Some(found)),
        Peek::Absent | Peek::Swapped => Ok(None),
        other @ (Peek::Retry | Peek::OutOfReach) => Err(other),
    }
}

/// Checks that the run of page `n` is there whole, in frames that fit together.
fn whole<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, run: Order, n: u64) -> Run {
    let first = run.align_down(n);
    let head = host(b, memory, first).ok_or(Stop::Fail("a run's first page is not there"))?;
    check(head.pfn.is_aligned(run), "G3: a run's frames are not aligned")?;
    for n in 0..run.pages() {
        let found = host(b, memory, first + n).ok_or(Stop::Fail("a run is there in part"))?;
        check(found.order >= run, "a page is not as large as its run")?;
        check(found.pfn.0 == head.pfn.0 + n && found.prot == Prot::all(), "frames of a run do not lie side by side")?;
    }
    Ok(())
}

fn first_touch<I: Isa>(b: &Bench<'_, I>) -> Run {
    each(b, 4, HugePolicy::Never, |memory, run| {
        let before = b.free() + memory.stats().tables;
        for (touched, at) in [(1, run.pages() + 5), (2, 3 * run.pages() - 1)] {
            check(fault(b, memory, page(at), Access::Write) == Outcome::Mapped, "a fault on RAM was not answered")?;
            let stats = memory.stats();
            check(stats.resident == touched * run.pages(), "a first touch brought more or less than a run")?;
            check(b.free() + stats.tables + stats.resident == before, "the accounts differ from the allocator's")?;
            whole(b, memory, run, at)?;
        }
        check(host(b, memory, 0).is_none() && host(b, memory, 3 * run.pages()).is_none(), "a run that nobody touched")?;
        for n in [0, 1, run.pages() - 1] {
            check(read_word(memory, b.cpu, b.m, page(run.pages() + n))? == 0, "a new run is not zero")?;
        }
        Ok(())
    })
}

/// By whichever page, in whichever order.
fn side_by_side<I: Isa>(b: &Bench<'_, I>) -> Run {
    for policy in [HugePolicy::Never, HugePolicy::Always, HugePolicy::Advise] {
        each(b, 4, policy, |memory, run| {
            let pages = memory.stats().resident;
            check(pages == 0, "memory that nobody touched is there")?;
            for (n, at) in [(3, 1), (1, 0), (2, 7), (0, 15)] {
                let at = n * run.pages() + at;
                write_word(memory, b.cpu, b.m, page(at), at + 1)?;
                whole(b, memory, run, at)?;
                check(read_word(memory, b.cpu, b.m, page(at))? == at + 1, "a store was lost")?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn refused<I: Isa>(b: &Bench<'_, I>) -> Run {
    let new = |config| match GuestMemory::<I>::new(b.cpu, b.m, FIRST, config) {
        Ok(memory) => {
            memory.destroy(b.cpu, b.m);
            None
        }
        Err(error) => Some(error),
    };
    let run = Order::new(4).ok_or(Stop::Fail("no such size"))?;
    if !I::GRANULES {
        let asked = MemoryConfig { granule: run, ..anon(BLOCK, HugePolicy::Never) };
        return check(new(asked) == Some(MemoryError::Granule), "runs where no guest may choose sizes");
    }
    let window = |start: u64, pages: u64, shift: u64| -> Result<MemoryConfig<I>, Stop> {
        let mut config = in_runs(BLOCK, run, HugePolicy::Never)?;
        let (prot, backing, huge) = (Prot::all(), hv_core::host::Backing::Anon, HugePolicy::Never);
        let window = Window { gfns: gfns(start, pages)?, shift, prot, backing, huge };
        check(config.windows.push(window).is_ok(), "no room for a window")?;
        Ok(config)
    };
    check(new(in_runs(BLOCK + 8, run, HugePolicy::Never)?) == Some(MemoryError::Granule), "half a run of RAM")?;
    check(new(window(2 * BLOCK + 8, 32, 0)?) == Some(MemoryError::Granule), "a window that begins inside a run")?;
    check(new(window(2 * BLOCK, 24, 0)?) == Some(MemoryError::Granule), "a window that ends inside a run")?;
    check(new(window(2 * BLOCK, 32, 8)?) == Some(MemoryError::Granule), "a window askew to its host pages")?;
    check(new(window(2 * BLOCK, 32, 16)?).is_none(), "a window of whole runs was refused")?;
    with_object(b, BLOCK, None, |object| {
        let config = MemoryConfig { granule: run, ..shown(object, 0, BLOCK, HugePolicy::Never) };
        check(new(config) == Some(MemoryError::Granule), "an object gives single pages")
    })?;
    b.with_config(in_runs(BLOCK, run, HugePolicy::Never)?, |memory| {
        let slot = memory.space().slots.find(&b.m.epoch().enter(b.cpu), Gfn(0)).ok_or(Stop::Fail("no slot"))?;
        let base = slot.hvn(Gfn(0)).ok_or(Stop::Fail("no page"))?;
        let show = |pages| -> Result<_, Stop> {
            let gfns = GfnRange::new(Gfn(0), pages).ok_or(Stop::Fail("no range"))?;
            let slot = Slot::new(gfns, base, Prot::all()).map_err(|_| Stop::Fail("no slot"))?;
            Ok(rewindow(b.cpu, b.m, memory.space(), &[slot]))
        };
        check(show(40)? == Err(SlotError::Granule), "a slot that ends inside a run")?;
        check(show(48)? == Ok(()), "a slot of whole runs was refused")
    })
}

fn split<I: Isa>(b: &Bench<'_, I>) -> Run {
    let run = Order::new(4).ok_or(Stop::Fail("no such size"))?;
    b.with_config(in_runs(2 * BLOCK, run, HugePolicy::Always)?, |memory| {
        fill(b, memory, 0..BLOCK)?;
        check(memory.stats().huge == 1 && host(b, memory, 3).is_some_and(|found| found.order == HUGE), "no block")?;
        memory.discard(b.cpu, b.m, gfns(32, 16)?);
        let stats = memory.stats();
        check((stats.resident, stats.huge, stats.zeroed) == (BLOCK - 16, 0, 0), "not one run went")?;
        for n in (0..BLOCK).step_by(16).filter(|n| *n != 32) {
            whole(b, memory, run, n)?;
        }
        holds(b, memory, 0..BLOCK, 32..48)?;
        write_word(memory, b.cpu, b.m, page(40), 41)?;
        whole(b, memory, run, 40)
    })
}

fn part<I: Isa>(b: &Bench<'_, I>) -> Run {
    each(b, 4, HugePolicy::Always, |memory, run| {
        let pages = run.pages();
        fill(b, memory, 0..3 * pages)?;
        // Of the first run the end, of the last the beginning, and all between.
        let resident = memory.stats().resident;
        memory.discard(b.cpu, b.m, gfns(pages - 3, pages + 5)?);
        check(memory.stats().resident == resident - pages, "more or less than the run between went")?;
        whole(b, memory, run, 0)?;
        whole(b, memory, run, 2 * pages)?;
        check(memory.stats().zeroed == 5, "not the parts of runs were zeroed")?;
        holds(b, memory, 0..3 * pages, pages - 3..2 * pages + 2)?;
        // Inside of one run.
        memory.discard(b.cpu, b.m, gfns(3, 2)?);
        check(memory.stats().zeroed == 7 && memory.stats().resident == resident - pages, "a run was broken")?;
        whole(b, memory, run, 0)?;
        holds(b, memory, 0..pages - 3, 3..5)
    })
}

/// Gives `with` memory of so many runs whose pages may go to `store`.
fn stored<I: Isa>(
    b: &Bench<'_, I>,
    run: Order,
    runs: u64,
    store: Arc<dyn Store<I::Machine>>,
    with: impl FnOnce(&GuestMemory<I>) -> Run,
) -> Run {
    let pages = (runs * run.pages()).max(BLOCK);
    b.with_config(in_runs(pages, run, HugePolicy::Always)?.swap(store), with)
}

fn swap<I: Isa>(b: &Bench<'_, I>) -> Run {
    for size in SIZES {
        let run = Order::new(size).ok_or(Stop::Fail("no such size"))?;
        let (pages, store) = (run.pages(), packed(b)?);
        stored(b, run, 2, store.clone(), |memory| {
            for round in 1..3 {
                // A page of zeros is nothing to keep, and comes back with the others.
                fill(b, memory, 0..pages - 1)?;
                let before = b.free();
                let resident = memory.stats().resident;
                let freed = memory.reclaim(b.cpu, b.m, u64::MAX).freed;
                check(freed == resident && memory.stats().resident == 0, "not all runs went")?;
                let (now, kept) = (memory.stats(), stats::<I>(&store));
                check((now.swapped, kept.pages) == (pages - 1, pages - 1), "the accounts of what went differ")?;
                check(b.free() + kept.frames + now.tables >= before + freed, "frames of runs that went are not free")?;
                check(host(b, memory, 0).is_none(), "a kept page is there")?;
                check(read_word(memory, b.cpu, b.m, page(pages - 2))? == pages - 1, "a page came back as another")?;
                let now = memory.stats();
                check((now.resident, now.swapped) == (pages, 0), "a run did not come back whole")?;
                check(now.swapped_in == round * (pages - 1), "swaps are miscounted")?;
                check(stats::<I>(&store).pages == 0, "the store has what is back")?;
                whole(b, memory, run, 0)?;
                holds(b, memory, 0..pages, pages - 1..pages)?;
            }
            Ok(())
        })?;
        empty::<I>(&store)?;
    }
    Ok(())
}

fn refused_in_part<I: Isa>(b: &Bench<'_, I>) -> Run {
    for size in SIZES {
        let run = Order::new(size).ok_or(Stop::Fail("no such size"))?;
        let store = Heap::new(b, run.pages() as usize + 10)?;
        let config = in_runs((2 * run.pages()).max(BLOCK), run, HugePolicy::Never)?.swap(store.clone());
        b.with_config(config, |memory| {
            fill(b, memory, 0..2 * run.pages())?;
            let done = memory.reclaim(b.cpu, b.m, u64::MAX);
            check(done.freed == run.pages(), "a run went in part, or none")?;
            check(store.kept() as u64 == run.pages(), "the store has a part of a run")?;
            check(memory.stats().swapped == run.pages(), "the accounts differ from the store's")?;
            let there = if host(b, memory, 0).is_some() { 0 } else { run.pages() };
            whole(b, memory, run, there)?;
            holds(b, memory, 0..2 * run.pages(), 0..0)
        })?;
        let left = Store::<I::Machine>::stats(&*store);
        check((left.pages, left.damaged) == (0, 0), "a token was used twice, or never")?;
    }
    Ok(())
}

fn noise<I: Isa>(b: &Bench<'_, I>) -> Run {
    let run = Order::new(4).ok_or(Stop::Fail("no such size"))?;
    let store = packed(b)?;
    stored(b, run, 2, store.clone(), |memory| {
        fill(b, memory, 0..32)?;
        check(memory.write(b.cpu, b.m, page(9), &random(9)).is_ok(), "RAM cannot be written")?;
        let done = memory.reclaim(b.cpu, b.m, u64::MAX);
        check(
            (done.freed, done.refused) == (BLOCK - 16, 16),
            "a run with a page that does not pack went, or another stayed",
        )?;
        let again = memory.reclaim(b.cpu, b.m, u64::MAX);
        check((again.freed, again.refused) == (0, 0), "what was refused is tried again though nobody used it")?;
        check(stats::<I>(&store).pages == 16, "the store has a part of a run")?;
        whole(b, memory, run, 9)?;
        holds(b, memory, 0..9, 0..0)
    })?;
    empty::<I>(&store)
}

fn part_of_kept<I: Isa>(b: &Bench<'_, I>) -> Run {
    for size in SIZES {
        let run = Order::new(size).ok_or(Stop::Fail("no such size"))?;
        let (pages, store) = (run.pages(), packed(b)?);
        stored(b, run, 2, store.clone(), |memory| {
            fill(b, memory, 0..2 * pages)?;
            memory.reclaim(b.cpu, b.m, u64::MAX);
            check(stats::<I>(&store).pages == 2 * pages, "not all runs went")?;
            memory.discard(b.cpu, b.m, gfns(pages - 3, 6)?);
            check(stats::<I>(&store).pages == 2 * pages - 6, "the store keeps what was discarded")?;
            check((memory.stats().resident, memory.stats().zeroed) == (0, 0), "a discard brought a run back")?;
            holds(b, memory, 0..2 * pages, pages - 3..pages + 3)?;
            whole(b, memory, run, 0)?;
            whole(b, memory, run, pages)
        })?;
        empty::<I>(&store)?;
    }
    Ok(())
}

fn used<I: Isa>(b: &Bench<'_, I>) -> Run {
    let run = Order::new(4).ok_or(Stop::Fail("no such size"))?;
    let store = packed(b)?;
    let config = in_runs(2 * BLOCK, run, HugePolicy::Never)?.swap(store.clone());
    ProbeVm::with_config(b, config, |vm| {
        let (at, idle) = (4 * run.pages(), 5 * run.pages());
        vm.ask(b, Op::Write, page(at + 9), 7)?;
        write_word(&vm.memory, b.cpu, b.m, page(idle), 8)?;
        let done = vm.memory.reclaim(b.cpu, b.m, 1);
        check(done.freed != 0 && done.freed.is_multiple_of(run.pages()), "not whole runs went")?;
        check(host(b, &vm.memory, idle).is_none(), "a run that nobody used did not go")?;
        whole(b, &vm.memory, run, at)?;
        check(vm.ask(b, Op::Read, page(at + 9), 0)?.result == 7, "the guest finds another page")?;
        check(vm.ask(b, Op::Read, page(idle), 0)?.result == 8, "the guest finds another page")
    })?;
    empty::<I>(&store)
}

fn collapse<I: Isa>(b: &Bench<'_, I>) -> Run {
    let run = Order::new(4).ok_or(Stop::Fail("no such size"))?;
    b.with_config(in_runs(2 * BLOCK, run, HugePolicy::Advise)?, |memory| {
        for n in (0..BLOCK - 16).rev() {
            fill(b, memory, n..n + 1)?;
        }
        memory.advise(b.cpu, b.m, gfns(0, BLOCK)?);
        let seen = memory.scan(b.cpu, b.m, &mut ScanCursor::default());
        check(seen == Scanned::Collapsed(HUGE, Collapsed::Copied), "runs were not put together")?;
        check((memory.stats().resident, memory.stats().huge) == (BLOCK, 1), "the accounts are wrong")?;
        whole(b, memory, run, 5)?;
        holds(b, memory, 0..BLOCK, BLOCK - 16..BLOCK)
    })
}

/// What the store has made small is huge again where it lies, and nowhere else.
fn no_copy<I: Isa>(b: &Bench<'_, I>) -> Run {
    let run = Order::new(12).ok_or(Stop::Fail("no such size"))?;
    let store = packed(b)?;
    stored(b, run, 1, store.clone(), |memory| {
        fill(b, memory, 0..run.pages())?;
        memory.reclaim(b.cpu, b.m, u64::MAX);
        holds(b, memory, 0..run.pages(), 0..0)?;
        check(memory.stats().huge == 0, "what the store had page by page came back in blocks")?;
        let before = host(b, memory, 0);
        let mut cursor = ScanCursor::default();
        for _ in 0..run.pages() / BLOCK {
            let seen = memory.scan(b.cpu, b.m, &mut cursor);
            check(seen == Scanned::Collapsed(HUGE, Collapsed::InPlace), "a part of a run was moved, or left small")?;
            whole(b, memory, run, 0)?;
        }
        check(before == host(b, memory, 0) && memory.stats().huge == run.pages() / BLOCK, "the run is elsewhere")?;
        holds(b, memory, 0..run.pages(), 0..0)
    })?;
    empty::<I>(&store)
}

fn no_frames<I: Isa>(b: &Bench<'_, I>) -> Run {
    let run = Order::new(4).ok_or(Stop::Fail("no such size"))?;
    b.with_config(in_runs(BLOCK, run, HugePolicy::Never)?, |memory| {
        // Tables first.
        write_word(memory, b.cpu, b.m, page(0), 1)?;
        let hold = Hold::all_but(b.cpu, b.m.frames(), 15);
        let before = (memory.stats(), b.free());
        let refused = fault(b, memory, page(100), Access::Write) == Outcome::NoMemory;
        let wrote = memory.write(b.cpu, b.m, page(100), &[1; 8]).is_ok();
        let after = (memory.stats(), b.free());
        drop(hold);
        check(refused && !wrote, "a run of frames that are not there")?;
        check(before == after, "a refusal changed something")?;
        check(fault(b, memory, page(100), Access::Write) == Outcome::Mapped, "frames are back, and no page")?;
        whole(b, memory, run, 100)
    })
}

/// One CPU takes runs away, another touches them, and looks at what it is told of.
fn race<I: Isa>(b: &Bench<'_, I>) -> Run {
    let run = Order::new(4).ok_or(Stop::Fail("no such size"))?;
    let store = packed(b)?;
    let config = in_runs(2 * BLOCK, run, HugePolicy::Never)?.swap(store.clone());
    b.with_config(config, |memory| {
        let done = AtomicBool::new(false);
        let range = gfns(16, 16)?;
        let there = |cpu: &Cpu| {
            for n in 0..90 {
                if n % 3 == 0 {
                    memory.reclaim(cpu, b.m, u64::MAX);
                } else {
                    memory.discard(cpu, b.m, range);
                }
                let _ = memory.write(cpu, b.m, page(16 + n % 16), &[1; 8]);
            }
            done.store(true, Ordering::Release);
        };
        let mut run_here = Ok(());
        let both = b.rig.both(&there, &mut |cpu| {
            let mut rounds = 0_u64;
            while !done.load(Ordering::Acquire) || rounds < 90 {
                let at = 16 + rounds % 16;
                if memory.write(cpu, b.m, page(at), &rounds.to_le_bytes()).is_err() {
                    run_here = Err(Stop::Fail("RAM cannot be written"));
                    return;
                }
                let guard = b.m.epoch().enter(cpu);
                let peek = |n| {
                    let hvn = memory.space().slots.find(&guard, Gfn(n)).and_then(|slot| slot.hvn(Gfn(n)));
                    hvn.map(|hvn| memory.space().host.peek(b.m, &guard, hvn))
                };
                if let Some(Peek::Page(found)) = peek(at)
                    && (found.order != run || found.pfn.0 % 16 != at % 16)
                {
                    run_here = Err(Stop::Fail("a page was shown that is no part of a run"));
                    return;
                }
                drop(guard);
                spin_loop();
                rounds += 1;
            }
        });
        if !both {
            return Err(Stop::Skip("there is one CPU only"));
        }
        run_here?;
        write_word(memory, b.cpu, b.m, page(20), 5)?;
        whole(b, memory, run, 20)?;
        check(memory.stats().resident.is_multiple_of(run.pages()), "a run is there in part")
    })?;
    empty::<I>(&store)
}
