//! Path lengths that no guest can see, for `cargo xtask bench`: what it costs, page by page, to change what many pages
//! are. Where time advances with the instructions carried out, one nanosecond each, these are instructions.
//!
//! Results have the form of those that the counting guest prints: `RESULT <name> n <count> min <x> med <x> mean <x> p99
//! <x> max <x>`. One event is a whole range; what is printed is its count divided by the pages, rounded up.

use core::fmt;

use hv_core::addr::Gfn;
use hv_core::host::HugePolicy;
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::mmu::zap::invalidate;
use hv_core::mmu::{GuestMemory, MemoryConfig, Outcome};
use hv_core::vcpu::exit::Access;

use crate::cases::{fault, gfns, page};
use crate::guest::ProbeVm;
use crate::probe::{FREE, Op};
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

/// Pages of a range.
const PAGES: u64 = 4096;
/// Ranges that are measured.
const EVENTS: usize = 8;
/// Ranges before them: the emulator's caches fill, and so do those of frames.
const WARM: usize = 2;

/// Measures everything.
pub fn run<I: Isa>(b: &Bench<'_, I>, out: &mut dyn fmt::Write) -> Run {
    unmap(b, out)?;
    discard(b, out)?;
    harvest(b, out)
}

/// What is derived of pages that stay, each mapped by its own leaf, is taken away: bracket, translations, flush. This is what
/// the notifier does, whatever the host side then does with the pages.
fn unmap<I: Isa>(b: &Bench<'_, I>, out: &mut dyn fmt::Write) -> Run {
    small(b, |memory| {
        let space = memory.space();
        let slot = space.slots.find(&b.m.epoch().enter(b.cpu), Gfn(0));
        let all = slot.and_then(|slot| slot.hvns_of(&gfns(0, PAGES).ok()?)).ok_or(Stop::Fail("no such pages"))?;
        let counts = measure(b, || {
            touch(b, memory)?;
            timed(b, || {
                invalidate(b.cpu, b.m, space, all, |_| {});
                Ok(())
            })
        })?;
        check(memory.census(b.cpu, b.m).pages() == 0, "translations stayed behind")?;
        report(out, "unmap", &counts)
    })
}

/// Pages that are present and mapped, each by its own leaf, are taken away: translations, flush, frames.
fn discard<I: Isa>(b: &Bench<'_, I>, out: &mut dyn fmt::Write) -> Run {
    small(b, |memory| {
        let counts = measure(b, || {
            touch(b, memory)?;
            timed(b, || {
                memory.discard(b.cpu, b.m, gfns(0, PAGES)?);
                Ok(())
            })
        })?;
        check(memory.stats().resident == 0, "pages stayed behind")?;
        report(out, "discard", &counts)
    })
}

/// Pages that a guest has stored to are reported, and made noticeable again.
fn harvest<I: Isa>(b: &Bench<'_, I>, out: &mut dyn fmt::Write) -> Run {
    let config = MemoryConfig { huge: HugePolicy::Never, ..MemoryConfig::from((FREE + PAGES) << 12) };
    ProbeVm::with_config(b, config, |vm| {
        let memory = &vm.memory;
        check(memory.log_start(b.cpu, b.m).is_ok(), "no memory for the log")?;
        let counts = measure(b, || {
            for n in 0..PAGES {
                check(vm.ask(b, Op::Write, page(FREE + n), n)?.fine, "a store raised an exception")?;
            }
            timed(b, || {
                let mut told = 0;
                let harvest = memory.log_harvest(b.cpu, b.m, &mut |run| told += run.pages());
                // The mailbox was stored to as well.
                check(harvest.pages > PAGES && told > PAGES, "the harvest missed pages")
            })
        })?;
        memory.log_stop(b.cpu, b.m);
        report(out, "harvest", &counts)
    })
}

/// Gives `with` memory that is mapped in small pages.
fn small<I: Isa>(b: &Bench<'_, I>, with: impl FnOnce(&GuestMemory<I>) -> Run) -> Run {
    let config = MemoryConfig { huge: HugePolicy::Never, ..MemoryConfig::from(PAGES << 12) };
    b.with_config(config, with)
}

/// Has the guest's store to every page answered.
fn touch<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>) -> Run {
    (0..PAGES).try_for_each(|n| {
        check(fault(b, memory, page(n), Access::Write) == Outcome::Mapped, "a page could not be mapped")
    })
}

/// How many ticks `work` takes.
fn timed<I: Isa>(b: &Bench<'_, I>, work: impl FnOnce() -> Run) -> Result<u64, Stop> {
    let begun = b.m.now();
    work()?;
    Ok(b.m.now().0.wrapping_sub(begun.0))
}

/// Instructions a page of `EVENTS` events, sorted. An event's own count is in ticks.
fn measure<I: Isa>(b: &Bench<'_, I>, mut event: impl FnMut() -> Result<u64, Stop>) -> Result<[u64; EVENTS], Stop> {
    for _ in 0..WARM {
        event()?;
    }
    let mut counts = [0; EVENTS];
    for count in &mut counts {
        let ns = event()?.saturating_mul(1_000_000_000) / b.m.ticks_per_second().max(1);
        *count = ns.div_ceil(PAGES);
    }
    counts.sort_unstable();
    Ok(counts)
}

fn report(out: &mut dyn fmt::Write, name: &str, counts: &[u64; EVENTS]) -> Run {
    let [min, .., max] = counts;
    let (med, mean) = (counts[EVENTS / 2], counts.iter().sum::<u64>() / EVENTS as u64);
    let line = writeln!(out, "RESULT {name} n {EVENTS} min {min} med {med} mean {mean} p99 {max} max {max}");
    line.map_err(|_| Stop::Fail("the result could not be written"))
}
