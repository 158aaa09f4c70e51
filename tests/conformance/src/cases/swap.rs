//! A VM's pages go to a store and come back.

use alloc::sync::Arc;

use hv_core::heap::Counted;
use hv_core::host::{HugePolicy, NotCollapsed, NotHuge, ScanCursor, Scanned, Survey};
use hv_core::isa::Isa;
use hv_core::mmu::{GfnCache, GuestMemory, MemoryConfig};
use hv_core::page::{Packed, Store, StoreStats, Tmpfs};

use super::huge::{BLOCK, anon};
use super::split::{fill, holds};
use super::tmpfs::{shown, with_object};
use super::{Case, case, gfns, page};
use crate::guest::{ProbeVm, read_word, write_word};
use crate::probe::{FREE, Op, RAM_PAGES};
use crate::rig::{Bench, SECOND};
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 10] {
    [
        case!("swap-pages-go-and-come-back", "G2", there_and_back),
        case!("swap-zeros-leave-a-hole", "G2", zeros),
        case!("swap-a-discard-forgets", "R24", discard),
        case!("swap-a-vm-that-ends-forgets", "R24", ends),
        case!("swap-what-is-used-stays", "R15", used_stays),
        case!("swap-empties-caches", "R23", cache),
        case!("swap-a-block-with-kept-pages-is-not-collapsed", "R3", collapse),
        case!("swap-an-object-gives-up-what-no-vm-uses", "R15", object),
        case!("swap-without-a-store-nothing-goes", "P8", no_store),
        case!("swap-a-survey-tells-what-every-page-is", "R1", survey),
    ]
}

/// What a store amounts to.
pub(super) fn stats<I: Isa>(store: &Packed) -> StoreStats {
    Store::<I::Machine>::stats(store)
}

/// A store that packs.
pub(super) fn packed<I: Isa>(b: &Bench<'_, I>) -> Result<Arc<Packed>, Stop> {
    let store = Packed::new().ok_or(Stop::Fail("no heap for a store"))?;
    b.own(|| Arc::new(store))
}

/// Gives `with` memory whose pages may be swapped. When the VM is gone the store has nothing.
pub(super) fn with_store<I: Isa>(
    b: &Bench<'_, I>,
    config: MemoryConfig<I>,
    with: impl FnOnce(&GuestMemory<I>, &Packed) -> Run,
) -> Run {
    let store = packed(b)?;
    let run = b.with_config(config.swap(store.clone()), |memory| with(memory, &store));
    run.and_then(|()| empty::<I>(&store))
}

/// Checks that a store has nothing any more.
pub(super) fn empty<I: Isa>(store: &Packed) -> Run {
    let left = stats::<I>(store);
    check(
        left == StoreStats { refused: left.refused, ..StoreStats::default() },
        "the store has what nobody can ask for",
    )
}

pub(super) const PAGES: u64 = 100;

pub(super) fn small<I: Isa>() -> MemoryConfig<I> {
    anon(2 * BLOCK, HugePolicy::Never)
}

fn there_and_back<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, small(), |memory, store| {
        for round in 1..4 {
            fill(b, memory, 0..PAGES)?;
            let before = b.free();
            let done = memory.reclaim(b.cpu, b.m, PAGES);
            check((done.freed, done.refused) == (PAGES, 0), "not all pages went")?;
            let (now, kept) = (memory.stats(), stats::<I>(store));
            check((now.resident, now.swapped, kept.pages) == (0, PAGES, PAGES), "the accounts of what went differ")?;
            check(kept.frames < PAGES / 4 && kept.damaged == 0, "pages of one word were not packed")?;
            check(b.free() + kept.frames == before + PAGES, "frames of pages that went are not free")?;
            holds(b, memory, 0..PAGES, 0..0)?;
            let now = memory.stats();
            check((now.resident, now.swapped) == (PAGES, 0), "the accounts of what came back differ")?;
            check((now.swapped_in, now.swapped_out) == (round * PAGES, round * PAGES), "swaps are miscounted")?;
            check(b.free() == before && stats::<I>(store).frames == 0, "the store keeps frames for nothing")?;
        }
        Ok(())
    })
}

fn zeros<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, small(), |memory, store| {
        for n in 0..PAGES {
            write_word(memory, b.cpu, b.m, page(n), 0)?;
        }
        let words = [0xa5; 4096];
        check(memory.write(b.cpu, b.m, page(PAGES), &words).is_ok(), "RAM cannot be written")?;
        check(memory.reclaim(b.cpu, b.m, u64::MAX).freed == PAGES + 1, "not all pages went")?;
        let kept = stats::<I>(store);
        check((kept.pages, kept.same, kept.bytes, kept.frames) == (1, 1, 0, 1), "one word is all there is to keep")?;
        let now = memory.stats();
        check((now.swapped, now.resident) == (1, 0), "zeros are kept")?;
        let mut bytes = [0; 4096];
        let read = memory.read(b.cpu, b.m, page(PAGES), &mut bytes).is_ok();
        check(read && bytes == words, "a page of one word came back as another")?;
        for n in 0..PAGES {
            check(read_word(memory, b.cpu, b.m, page(n))? == 0, "zeros came back as something else")?;
        }
        check(memory.stats().resident == 1, "zeros that were only read cost frames")
    })
}

fn discard<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, small(), |memory, store| {
        fill(b, memory, 0..PAGES)?;
        memory.reclaim(b.cpu, b.m, PAGES);
        memory.discard(b.cpu, b.m, gfns(10, 20)?);
        check(stats::<I>(store).pages == PAGES - 20, "the store keeps what was discarded")?;
        check(memory.stats().swapped == PAGES - 20, "discarded pages count as kept")?;
        holds(b, memory, 0..PAGES, 10..30)
    })
}

fn ends<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, small(), |memory, store| {
        fill(b, memory, 0..PAGES)?;
        memory.reclaim(b.cpu, b.m, PAGES);
        check(stats::<I>(store).pages == PAGES, "nothing is kept")
    })
}

fn used_stays<I: Isa>(b: &Bench<'_, I>) -> Run {
    const USED: u64 = 8;
    const IDLE: u64 = 32;
    let store = packed(b)?;
    let config = anon(RAM_PAGES, HugePolicy::Never).swap(store.clone());
    ProbeVm::with_config(b, config, |vm| {
        // The guest's own pages first, so that what it uses afterwards is what it uses now.
        for n in 0..USED {
            vm.ask(b, Op::Write, page(FREE + n), n + 1)?;
        }
        for n in 0..IDLE {
            write_word(&vm.memory, b.cpu, b.m, page(FREE + USED + n), n + 1)?;
        }
        let done = vm.memory.reclaim(b.cpu, b.m, IDLE);
        check(done.freed >= IDLE, "pages that nobody used did not go")?;
        let now = vm.memory.stats();
        check(now.aged == 1 && now.used >= USED, "what the guest used was not noticed")?;
        let before = now.swapped_in;
        for n in 0..USED {
            check(read_word(&vm.memory, b.cpu, b.m, page(FREE + n))? == n + 1, "a page changed")?;
        }
        check(vm.memory.stats().swapped_in == before, "a page that is in use went before those that are not")?;
        for n in 0..USED + IDLE {
            let want = if n < USED { n + 1 } else { n - USED + 1 };
            check(vm.ask(b, Op::Read, page(FREE + n), 0)?.result == want, "the guest finds another page")?;
        }
        // Nothing is exempt for ever.
        check(vm.memory.reclaim(b.cpu, b.m, USED + IDLE).freed >= USED + IDLE, "what was used once stays for ever")
    })?;
    empty::<I>(&store)
}

fn cache<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, small(), |memory, _| {
        let cache = GfnCache::new(memory, page(5).page()).ok_or(Stop::Fail("no memory for a cache"))?;
        for round in 1_u64..4 {
            fill(b, memory, 0..10)?;
            check(cache.try_write(memory, b.cpu, b.m, page(5), &round.to_le_bytes()), "the cache is of no use")?;
            memory.reclaim(b.cpu, b.m, 10);
            check(!cache.is_filled(), "the frame of a page that went is kept in mind")?;
            let mut bytes = [0; 8];
            let known = cache.try_read(memory, b.cpu, b.m, page(5), &mut bytes);
            check(!known, "a page that is elsewhere was read through a cache")?;
            check(read_word(memory, b.cpu, b.m, page(5))? == round, "a store through a cache was lost")?;
        }
        Ok(())
    })
}

fn collapse<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, anon(BLOCK, HugePolicy::Advise), |memory, _| {
        fill(b, memory, 0..BLOCK)?;
        memory.reclaim(b.cpu, b.m, BLOCK);
        // All but one are back, and a block is wanted.
        holds(b, memory, 1..BLOCK, 0..0)?;
        memory.advise(b.cpu, b.m, gfns(0, BLOCK)?);
        let kept = Scanned::Kept(NotCollapsed::NotHuge(NotHuge::Swapped));
        let scanned = memory.scan(b.cpu, b.m, &mut ScanCursor::default());
        check(scanned == kept, "a block was put together of which the store has a page")?;
        holds(b, memory, 0..BLOCK, 0..0)?;
        let scanned = memory.scan(b.cpu, b.m, &mut ScanCursor::default());
        check(matches!(scanned, Scanned::Collapsed(..)), "a block that is all there was not put together")?;
        holds(b, memory, 0..BLOCK, 0..0)
    })
}

/// An extent that a guest uses stays as long as there is another.
fn object<I: Isa>(b: &Bench<'_, I>) -> Run {
    let store = packed(b)?;
    let show = |object: &Counted<Tmpfs<I>>| shown(object, 0, 2 * BLOCK, HugePolicy::Never);
    with_object(b, 2 * BLOCK, Some(store.clone()), |object| {
        ProbeVm::with_config(b, show(object), |vm| {
            let other = GuestMemory::new(b.cpu, b.m, SECOND, show(object)).map_err(|_| Stop::Fail("no memory"))?;
            let run = give_up(b, vm, &other, object, &store);
            other.destroy(b.cpu, b.m);
            run
        })
    })?;
    empty::<I>(&store)
}

fn give_up<I: Isa>(
    b: &Bench<'_, I>,
    vm: &ProbeVm<I>,
    other: &GuestMemory<I>,
    object: &Tmpfs<I>,
    store: &Packed,
) -> Run {
    fill(b, other, FREE..2 * BLOCK)?;
    check(vm.ask(b, Op::Read, page(FREE), 0)?.result == FREE + 1, "the guest finds another page")?;
    let all = object.stats(b.cpu, b.m).resident;
    let idle = other.reclaim(b.cpu, b.m, 1);
    let left = object.stats(b.cpu, b.m).resident;
    check(idle.freed == BLOCK && left + BLOCK == all, "not one extent went")?;
    holds(b, other, FREE..BLOCK, 0..0)?;
    check(object.stats(b.cpu, b.m).resident == left, "the extent went that a guest uses")?;
    check(vm.memory.reclaim(b.cpu, b.m, left).freed == left, "what was used once stays for ever")?;
    check(stats::<I>(store).pages == all, "the store has not what went")?;
    holds(b, &vm.memory, FREE..2 * BLOCK, 0..0)?;
    check(vm.ask(b, Op::Read, page(BLOCK), 0)?.result == BLOCK + 1, "the guest finds another page")?;
    // What is swapped and punched is forgotten.
    object.reclaim(b.cpu, b.m, u64::MAX);
    other.discard(b.cpu, b.m, gfns(BLOCK, BLOCK)?);
    check(stats::<I>(store).pages == all - BLOCK, "the store keeps what was punched")?;
    holds(b, &vm.memory, FREE..2 * BLOCK, BLOCK..2 * BLOCK)
}

fn no_store<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        fill(b, memory, 0..PAGES)?;
        let done = memory.reclaim(b.cpu, b.m, PAGES);
        check((done.freed, memory.stats().resident) == (0, PAGES), "pages went nowhere")?;
        holds(b, memory, 0..PAGES, 0..0)
    })
}

fn survey<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, anon(2 * BLOCK, HugePolicy::Always), |memory, _| {
        let all = gfns(0, 2 * BLOCK)?;
        let look = || memory.survey(b.cpu, b.m, all);
        let none = Survey::default();
        check(look() == none, "what nobody touched is something")?;
        write_word(memory, b.cpu, b.m, page(3), 7)?;
        check(look() == Survey { huge: BLOCK, ..none }, "a large page is taken for something else")?;
        memory.reclaim(b.cpu, b.m, u64::MAX);
        check(look() == Survey { swapped: 1, ..none }, "a page in the store is taken for something else")?;
        check(read_word(memory, b.cpu, b.m, page(3))? == 7, "it came back as another")?;
        check(look() == Survey { small: 1, ..none }, "a small page is taken for something else")
    })
}
