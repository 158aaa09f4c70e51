//! Pages whose frames the hypervisor keeps in mind.

use hv_core::addr::{GfnRange, Gpa, Hvn, HvnRange};
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::zap::{invalidate, rewindow};
use hv_core::mmu::{GfnCache, GuestMemory};
use hv_core::radix::format::Prot;
use hv_core::sync::{AtomicU64, Ordering};
use hv_core::vcpu::services::MemError;

use super::{Case, case, gfns, page};
use crate::probe::{FREE, RAM_PAGES};
use crate::rig::{Bench, SECOND};
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 9] {
    [
        case!("gpc-serves-what-memory-has", "R23", serves),
        case!("gpc-discard-empties-it", "R23", discard),
        case!("gpc-other-pages-stay", "R7", others_stay),
        case!("gpc-is-not-filled-inside-a-bracket", "R23", bracket),
        case!("gpc-a-moved-window-empties-it", "R17", moved),
        case!("gpc-permissions-are-the-slots", "R25", permissions),
        case!("gpc-beyond-ram-is-a-bad-address", "R26", beyond),
        case!("gpc-dropped-is-forgotten", "R20", dropped),
        case!("gpc-no-store-lands-in-a-freed-frame", "G1", race),
    ]
}

/// A cache of the page at `gfn`.
fn keep<I: Isa>(memory: &GuestMemory<I>, gfn: u64) -> Result<GfnCache<I>, Stop> {
    GfnCache::new(memory, page(gfn).page()).ok_or(Stop::Fail("no memory for a cache"))
}

/// The host page behind a guest page.
fn behind<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, at: Gpa) -> Result<Hvn, Stop> {
    let slot = memory.space().slots.find(&b.m.epoch().enter(b.cpu), at.page());
    slot.and_then(|slot| slot.hvn(at.page())).ok_or(Stop::Fail("RAM is in no slot"))
}

fn word<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, at: Gpa) -> Result<u64, Stop> {
    crate::guest::read_word(memory, b.cpu, b.m, at)
}

/// Through the cache, or the long way.
fn read<I: Isa>(
    b: &Bench<'_, I>,
    memory: &GuestMemory<I>,
    cache: &GfnCache<I>,
    at: Gpa,
    into: &mut [u8],
) -> Result<(), MemError> {
    if cache.try_read(memory, b.cpu, b.m, at, into) { Ok(()) } else { memory.read(b.cpu, b.m, at, into) }
}

/// Through the cache, or the long way.
fn write<I: Isa>(
    b: &Bench<'_, I>,
    memory: &GuestMemory<I>,
    cache: &GfnCache<I>,
    at: Gpa,
    from: &[u8],
) -> Result<(), MemError> {
    if cache.try_write(memory, b.cpu, b.m, at, from) { Ok(()) } else { memory.write(b.cpu, b.m, at, from) }
}

fn store<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, cache: &GfnCache<I>, at: Gpa, value: u64) -> Run {
    write(b, memory, cache, at, &value.to_le_bytes()).map_err(|_| Stop::Fail("RAM cannot be written"))
}

fn load<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, cache: &GfnCache<I>, at: Gpa) -> Result<u64, Stop> {
    let mut bytes = [0xff; 8];
    read(b, memory, cache, at, &mut bytes).map_err(|_| Stop::Fail("RAM cannot be read"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn serves<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let cache = keep(memory, FREE)?;
        check(load(b, memory, &cache, page(FREE))? == 0 && !cache.is_filled(), "an untouched page has a frame")?;
        store(b, memory, &cache, page(FREE), 1)?;
        store(b, memory, &cache, Gpa(page(FREE).0 + 4088), 2)?;
        check(cache.is_filled(), "a page that is there was not kept in mind")?;
        check(word(b, memory, page(FREE))? == 1, "memory lacks what was stored through the cache")?;
        check(load(b, memory, &cache, Gpa(page(FREE).0 + 4088))? == 2, "the cache lacks what was stored through it")?;
        // Across the page's end, and in another page altogether.
        store(b, memory, &cache, Gpa(page(FREE).0 + 4092), 0x0403_0201_0807_0605)?;
        check(load(b, memory, &cache, page(FREE + 1))? == 0x0403_0201, "bytes were lost beyond the page")?;
        check(memory.stats().resident == 2, "a cache costs frames")
    })
}

fn discard<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let cache = keep(memory, FREE)?;
        for round in 1..4 {
            check(load(b, memory, &cache, page(FREE))? == 0, "discarded memory is not zero")?;
            store(b, memory, &cache, page(FREE), round)?;
            store(b, memory, &cache, page(FREE), round)?;
            check(cache.is_filled(), "a page that is there was not kept in mind")?;
            memory.discard(b.cpu, b.m, gfns(FREE, 1)?);
            check(!cache.is_filled(), "a page that was taken away is kept in mind")?;
            check(memory.stats().resident == 0, "a cache keeps a frame")?;
        }
        Ok(())
    })
}

fn others_stay<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let cache = keep(memory, FREE)?;
        store(b, memory, &cache, page(FREE), 1)?;
        store(b, memory, &cache, page(FREE), 1)?;
        memory.discard(b.cpu, b.m, gfns(FREE + 1, 8)?);
        check(cache.is_filled(), "a bracket elsewhere empties a cache")
    })
}

fn bracket<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let cache = keep(memory, FREE)?;
        store(b, memory, &cache, page(FREE), 1)?;
        let range = HvnRange::new(behind(b, memory, page(FREE))?, 1).ok_or(Stop::Fail("no range"))?;
        let inside = invalidate(b.cpu, b.m, memory.space(), range, |_| {
            let touched = cache.with(b.cpu, b.m, Prot::READ, |_| {});
            (touched, cache.is_filled(), load(b, memory, &cache, page(FREE)))
        });
        check(inside == (false, false, Ok(1)), "a cache is filled inside the bracket that takes its page away")?;
        check(load(b, memory, &cache, page(FREE))? == 1 && cache.is_filled(), "a cache stays empty after the bracket")
    })
}

fn moved<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let cache = keep(memory, FREE)?;
        for n in 0..2 {
            check(memory.write(b.cpu, b.m, page(FREE + n), &[n as u8 + 1; 8]).is_ok(), "RAM cannot be written")?;
        }
        check(load(b, memory, &cache, page(FREE))? == 0x0101_0101_0101_0101 && cache.is_filled(), "not kept in mind")?;
        let other = behind(b, memory, page(FREE + 1))?;
        let one = GfnRange::new(page(FREE).page(), 1).ok_or(Stop::Fail("no range"))?;
        let slot = Slot::new(one, other, Prot::all()).map_err(|_| Stop::Fail("no slot"))?;
        check(rewindow(b.cpu, b.m, memory.space(), &[slot]).is_ok(), "a window was refused")?;
        check(!cache.is_filled(), "what an old window showed is kept in mind")?;
        check(load(b, memory, &cache, page(FREE))? == 0x0202_0202_0202_0202, "the cache shows the old window's page")
    })
}

fn permissions<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let cache = keep(memory, FREE)?;
        store(b, memory, &cache, page(FREE), 7)?;
        let all = gfns(0, RAM_PAGES)?;
        let slot = Slot::new(all, behind(b, memory, Gpa(0))?, Prot::READ).map_err(|_| Stop::Fail("no slot"))?;
        check(rewindow(b.cpu, b.m, memory.space(), &[slot]).is_ok(), "a window was refused")?;
        check(load(b, memory, &cache, page(FREE))? == 7 && cache.is_filled(), "a page to read was not kept in mind")?;
        let refused = write(b, memory, &cache, page(FREE), &[9; 8]) == Err(MemError::BadAddress);
        check(refused && word(b, memory, page(FREE))? == 7, "a store through a window that allows none")
    })
}

fn beyond<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for gfn in [RAM_PAGES, u64::MAX >> 12] {
            let cache = keep(memory, gfn)?;
            let mut bytes = [0; 8];
            let read = read(b, memory, &cache, page(gfn), &mut bytes);
            let written = write(b, memory, &cache, page(gfn), &bytes);
            check((read, written) == (Err(MemError::BadAddress), Err(MemError::BadAddress)), "memory beyond RAM")?;
            check(!cache.is_filled(), "a page beyond RAM is kept in mind")?;
        }
        Ok(())
    })
}

fn dropped<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let kept = keep(memory, FREE)?;
        for _ in 0..100 {
            let cache = keep(memory, FREE + 1)?;
            store(b, memory, &cache, page(FREE + 1), 1)?;
        }
        store(b, memory, &kept, page(FREE), 1)?;
        // Another VM's cache serves nobody here.
        let other = b.memory(SECOND)?;
        let done = keep(&other, FREE).and_then(|foreign| {
            store(b, memory, &foreign, page(FREE), 5)?;
            word(b, &other, page(FREE))
        });
        other.destroy(b.cpu, b.m);
        check(done? == 0 && word(b, memory, page(FREE))? == 5, "a store went to another VM")?;
        memory.discard(b.cpu, b.m, gfns(FREE, 2)?);
        check(!kept.is_filled() && memory.stats().resident == 0, "pages stay behind caches that are gone")
    })
}

/// How often the page is taken away under the other CPU's stores.
const ROUNDS: u64 = 500;

fn race<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let cache = keep(memory, FREE)?;
        let (stop, filled) = (AtomicU64::new(0), AtomicU64::new(0));
        let range = gfns(FREE, 1)?;
        let mut end = Ok(());
        let ran = b.rig.both(
            &|cpu| {
                while stop.load(Ordering::Relaxed) == 0 {
                    let known = cache.with(cpu, b.m, Prot::WRITE, |frame| b.m.write(frame, 0, &[0xee; 8]));
                    filled.fetch_add(u64::from(known), Ordering::Relaxed);
                }
            },
            &mut |cpu| {
                // A checking machine sees a store to a free frame; here what an heir wrote must stay.
                for round in 0..ROUNDS {
                    let heir = page(FREE + 1 + round % 8);
                    let write = |at, value: u64| memory.write(cpu, b.m, at, &value.to_le_bytes());
                    if write(page(FREE), round).is_err() {
                        end = Err(Stop::Fail("RAM cannot be written"));
                    }
                    memory.discard(cpu, b.m, range);
                    let fresh = write(heir, round).and_then(|()| {
                        let mut bytes = [0; 8];
                        memory.read(cpu, b.m, heir, &mut bytes).map(|()| u64::from_le_bytes(bytes))
                    });
                    if fresh != Ok(round) {
                        end = Err(Stop::Fail("a store landed in a frame that was another page's by then"));
                    }
                    memory.discard(cpu, b.m, gfns(FREE + 1, 8).unwrap_or(range));
                }
                stop.store(1, Ordering::Relaxed);
            },
        );
        if !ran {
            return Err(Stop::Skip("needs two CPUs"));
        }
        end?;
        check(!cache.is_filled(), "a page that was taken away is kept in mind")?;
        store(b, memory, &cache, page(FREE), 1)?;
        check(load(b, memory, &cache, page(FREE))? == 1, "a cache is of no use after the race")
    })
}
