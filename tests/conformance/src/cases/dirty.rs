//! Which pages were stored to. What a harvest tells is compared with what was done, page by page.
//!
//! The probe's own pages are stored to all the time: nothing is said about those below [`FREE`].

use hv_core::addr::{GfnRange, Hvn, HvnRange};
use hv_core::epoch::Cpu;
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::zap::{invalidate, rewindow};
use hv_core::mmu::{GfnCache, GuestMemory, LogError};
use hv_core::radix::format::Prot;
use hv_core::sync::Mutex;

use super::{Case, case, gfns, page};
use crate::guest::{ProbeVm, read_word, write_word};
use crate::hold::Hold;
use crate::probe::{FREE, Op, RAM_PAGES};
use crate::rig::{Bench, FIRST};
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 10] {
    [
        case!("dirty-off-there-is-nothing", "R16", off),
        case!("dirty-tells-what-the-guest-wrote", "R16", guest),
        case!("dirty-tells-what-the-hypervisor-wrote", "R16", hypervisor),
        case!("dirty-tells-what-was-discarded", "R16", discarded),
        case!("dirty-survives-a-translations-removal", "R14", removed),
        case!("dirty-is-told-through-every-window", "R17", windows),
        case!("dirty-started-anew-is-empty", "R20", anew),
        case!("dirty-without-memory-is-off", "P8", no_memory),
        case!("dirty-gives-its-frames-back", "R24", gives_back),
        case!("dirty-twenty-rounds-under-two-vcpus", "G4", rounds),
    ]
}

/// Pages of RAM, a bit each.
pub(super) type Pages = [u64; (RAM_PAGES / 64) as usize];

/// Sets the bits of guest pages.
pub(super) fn add(set: &mut Pages, pages: GfnRange) {
    for n in pages.start().0.max(FREE)..pages.end().0 {
        if let Some(word) = set.get_mut((n / 64) as usize) {
            *word |= 1 << (n % 64);
        }
    }
}

/// A harvest has to tell of exactly these pages.
fn tells<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, pages: &[u64], otherwise: &'static str) -> Run {
    let (mut told, mut wanted) = (Pages::default(), Pages::default());
    memory.log_harvest(b.cpu, b.m, &mut |pages| add(&mut told, pages));
    for n in pages {
        add(&mut wanted, gfns(*n, 1)?);
    }
    check(told == wanted, otherwise)
}

/// Starts the log.
pub(super) fn start<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>) -> Run {
    check(memory.log_start(b.cpu, b.m) == Ok(()), "there is memory, and no log")
}

fn off<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        write_word(memory, b.cpu, b.m, page(FREE), 1)?;
        tells(b, memory, &[], "a log that is off tells of pages")?;
        check(memory.logged(b.cpu, b.m, gfns(0, RAM_PAGES)?) == 0, "a log that is off knows of pages")?;
        memory.log_stop(b.cpu, b.m);
        check(memory.stats().harvests == 0, "a harvest of nothing counts")
    })
}

fn guest<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        let does = |op, n: u64| vm.ask(b, op, page(FREE + n), 7).map(|_| ());
        // Mapped, and stored to, before: pages that have translations already and pages that have none.
        for n in 0..3 {
            does(Op::Write, n)?;
        }
        start(b, &vm.memory)?;
        tells(b, &vm.memory, &[], "what was stored before the start was told")?;
        does(Op::Write, 0)?;
        does(Op::Read, 1)?;
        does(Op::Write, 5)?;
        does(Op::Read, 6)?;
        tells(b, &vm.memory, &[FREE, FREE + 5], "not told what the guest stored to")?;
        does(Op::Read, 0)?;
        does(Op::Read, 5)?;
        tells(b, &vm.memory, &[], "what was only read was told")?;
        for _ in 0..2 {
            does(Op::Write, 5)?;
            does(Op::Write, 6)?;
            tells(b, &vm.memory, &[FREE + 5, FREE + 6], "a second store to a page went unnoticed")?;
        }
        check(vm.memory.stats().harvests == 5 && vm.memory.stats().harvested >= 6, "harvests are miscounted")
    })
}

fn hypervisor<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let cache = GfnCache::new(memory, page(FREE + 9).page()).ok_or(Stop::Fail("no memory for a cache"))?;
        write_word(memory, b.cpu, b.m, page(FREE + 9), 1)?;
        start(b, memory)?;
        let across = hv_core::addr::Gpa(page(FREE + 1).0 - 4);
        check(memory.write(b.cpu, b.m, across, &[1; 8]).is_ok(), "RAM cannot be written")?;
        check(memory.read(b.cpu, b.m, page(FREE + 3), &mut [0; 8]).is_ok(), "RAM cannot be read")?;
        check(cache.try_read(memory, b.cpu, b.m, page(FREE + 9), &mut [0; 8]), "a cache that serves nothing")?;
        tells(b, memory, &[FREE, FREE + 1], "not told what the hypervisor wrote")?;
        check(cache.try_write(memory, b.cpu, b.m, page(FREE + 9), &[2; 8]), "a cache that serves nothing")?;
        check(memory.logged(b.cpu, b.m, gfns(FREE, 32)?) == 1, "a store through a cache goes unnoticed")?;
        tells(b, memory, &[FREE + 9], "not told of a store through a cache")
    })
}

fn discarded<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        write_word(memory, b.cpu, b.m, page(FREE), 1)?;
        start(b, memory)?;
        memory.discard(b.cpu, b.m, gfns(FREE, 2)?);
        tells(b, memory, &[FREE, FREE + 1], "not told of pages that are zero now")
    })
}

/// Host pages of RAM from `first` on.
fn ram<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, first: u64, pages: u64) -> Result<HvnRange, Stop> {
    let slot = memory.space().slots.find(&b.m.epoch().enter(b.cpu), page(first).page());
    let at: Option<Hvn> = slot.and_then(|slot| slot.hvn(page(first).page()));
    at.and_then(|at| HvnRange::new(at, pages)).ok_or(Stop::Fail("RAM is in no slot"))
}

/// What hardware noted in a leaf goes with it, unless it is read as the leaf goes.
fn removed<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        start(b, &vm.memory)?;
        vm.ask(b, Op::Read, page(FREE + 1), 0)?;
        vm.ask(b, Op::Write, page(FREE), 7)?;
        vm.ask(b, Op::Write, page(FREE + 1), 7)?;
        invalidate(b.cpu, b.m, vm.memory.space(), ram(b, &vm.memory, 0, RAM_PAGES)?, |_| {});
        vm.ask(b, Op::Read, page(FREE), 0)?;
        tells(b, &vm.memory, &[FREE, FREE + 1], "a store is forgotten with the translation that it went through")
    })
}

fn windows<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let all = ram(b, memory, 0, RAM_PAGES)?;
        let shows = |first: u64, from: u64, pages: u64| {
            let base = all.start().checked_add(from).ok_or(Stop::Fail("no page"))?;
            Slot::new(gfns(first, pages)?, base, Prot::all()).map_err(|_| Stop::Fail("no slot"))
        };
        let set = |slots: &[Slot]| check(rewindow(b.cpu, b.m, memory.space(), slots).is_ok(), "windows were refused");
        start(b, memory)?;
        set(&[shows(0, 0, 128)?, shows(128, 64, 64)?])?;
        write_word(memory, b.cpu, b.m, page(130), 1)?;
        tells(b, memory, &[66, 130], "not told through each of two windows")?;
        write_word(memory, b.cpu, b.m, page(66), 1)?;
        set(&[shows(0, 0, 32)?])?;
        tells(b, memory, &[], "told of a page that no window shows")?;
        set(&[shows(0, 0, 128)?])?;
        tells(b, memory, &[66], "a page that no window showed for a while is forgotten")
    })
}

fn anew<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        for _ in 0..2 {
            start(b, &vm.memory)?;
            start(b, &vm.memory)?;
            tells(b, &vm.memory, &[], "a new log tells of old stores")?;
            vm.ask(b, Op::Write, page(FREE), 7)?;
            write_word(&vm.memory, b.cpu, b.m, page(FREE + 1), 1)?;
            vm.memory.log_stop(b.cpu, b.m);
            tells(b, &vm.memory, &[], "a log that is off tells of pages")?;
            vm.ask(b, Op::Write, page(FREE), 8)?;
        }
        check(read_word(&vm.memory, b.cpu, b.m, page(FREE))? == 8, "a store was lost")
    })
}

fn no_memory<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for keep in 0..2 {
            let hold = Hold::all_but(b.cpu, b.m.frames(), keep);
            let refused = memory.log_start(b.cpu, b.m);
            drop(hold);
            check(refused == Err(LogError::NoMemory), "a log without memory for its bits")?;
        }
        write_word(memory, b.cpu, b.m, page(FREE), 1)?;
        tells(b, memory, &[], "a log that was refused tells of pages")?;
        start(b, memory)?;
        write_word(memory, b.cpu, b.m, page(FREE), 2)?;
        tells(b, memory, &[FREE], "not told what was written once there was memory")
    })
}

fn gives_back<I: Isa>(b: &Bench<'_, I>) -> Run {
    let before = b.free();
    b.with_memory(|memory| {
        let (free, tables) = (b.free(), memory.stats().tables);
        start(b, memory)?;
        check(b.free() + memory.stats().tables == free + tables, "the accounts differ from the allocator's")?;
        check(b.free() < free, "a log that needs no memory")?;
        memory.log_stop(b.cpu, b.m);
        check((b.free(), memory.stats().tables) == (free, tables), "a log that was stopped kept frames")?;
        start(b, memory)
    })?;
    check(b.free() == before, "a VM whose log was on kept frames")
}

/// Pages that the two vCPUs store to, by turns far apart and side by side.
const TARGETS: u64 = RAM_PAGES - FREE;
/// Stores of each vCPU between two harvests.
const STORES: u64 = 8;
const ROUNDS: u64 = 20;

/// What each harvest tells of is copied. When all is over the copy is the memory, and all that was told of was stored to.
fn rounds<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        start(b, &vm.memory)?;
        let wrote = Mutex::new(Pages::default());
        let stores = |cpu: &Cpu, vcpu: u16, round: u64| -> Run {
            for n in 0..STORES {
                let seed = (round * STORES + n) * 2 + u64::from(vcpu);
                let target = FREE + seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) % TARGETS;
                add(&mut wrote.lock(), gfns(target, 1)?);
                check(vm.ask_on(cpu, b.m, vcpu, Op::Write, page(target), seed + 1)?.fine, "a store failed")?;
            }
            Ok(())
        };
        let mut copy = [0; RAM_PAGES as usize];
        let mut told = Pages::default();
        let mut harvest = |cpu: &Cpu| {
            let mut run = Ok(());
            vm.memory.log_harvest(cpu, b.m, &mut |pages| {
                add(&mut told, pages);
                for n in pages.start().0..pages.end().0 {
                    match (copy.get_mut(n as usize), read_word(&vm.memory, cpu, b.m, page(n))) {
                        (Some(copy), Ok(now)) => *copy = now,
                        (_, Err(why)) => run = Err(why),
                        (None, Ok(_)) => run = Err(Stop::Fail("told of a page beyond RAM")),
                    }
                }
            });
            run
        };
        let (there, mut here) = (Mutex::new(Ok(())), Ok(()));
        let ran = b.rig.both(&|cpu| *there.lock() = (0..ROUNDS).try_for_each(|n| stores(cpu, 1, n)), &mut |cpu| {
            here = (0..ROUNDS).try_for_each(|n| stores(cpu, 0, n).and_then(|()| harvest(cpu)));
        });
        if !ran {
            return Err(Stop::Skip("needs two CPUs"));
        }
        here?;
        let there = *there.lock();
        there?;
        harvest(b.cpu)?;
        check(told == *wrote.lock(), "not told exactly what was stored to")?;
        for n in FREE..RAM_PAGES {
            let now = read_word(&vm.memory, b.cpu, b.m, page(n))?;
            check(copy.get(n as usize) == Some(&now), "a store is in the memory and in no harvest")?;
        }
        Ok(())
    })
}
