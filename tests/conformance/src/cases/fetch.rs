//! A guest that executes what it finds, where it may.

use hv_core::addr::{GfnRange, Gpa};
use hv_core::host::{Backing, HUGE, HugePolicy};
use hv_core::isa::Isa;
use hv_core::mmu::{MemoryConfig, Window};
use hv_core::radix::format::Prot;

use super::dirty::start;
use super::{Case, case, gfns, page};
use crate::guest::{ProbeVm, write_word};
use crate::probe::{FREE, Op, RAM_PAGES};
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 4] {
    [
        case!("fetch-is-a-first-touch", "R6", first_touch),
        case!("fetch-from-leaves-of-every-size", "R11", sizes),
        case!("fetch-is-no-store", "R16", no_store),
        case!("fetch-where-only-data-may-be", "R6", data_only),
    ]
}

const BLOCK: u64 = HUGE.pages();
const RAISED: &str = "a fetch raised an exception";

/// An instruction in a page, at its own distance from the page's beginning.
fn at(gfn: u64) -> Gpa {
    Gpa(page(gfn).0 + 0x80 + gfn % 16 * 8)
}

/// The instruction, or that there is none.
fn returns<I: Isa>(b: &Bench<'_, I>) -> Result<u64, Stop> {
    let probe = b.rig.probe().map_err(Stop::Skip)?;
    probe.returns.ok_or(Stop::Skip("this column's probe executes nothing but itself"))
}

/// The guest has not touched the page in any other way, and does not need to.
fn first_touch<I: Isa>(b: &Bench<'_, I>) -> Run {
    let word = returns(b)?;
    let config = MemoryConfig { huge: HugePolicy::Never, ..MemoryConfig::from(RAM_PAGES << 12) };
    ProbeVm::with_config(b, config, |vm| {
        for n in FREE..FREE + 4 {
            write_word(&vm.memory, b.cpu, b.m, at(n), word)?;
            check(vm.ask(b, Op::Fetch, at(n), 0)?.fine, RAISED)?;
            check(vm.ask(b, Op::Read, at(n), 0)?.result == word, "what was executed reads as something else")?;
        }
        // By the guest's own store, to a page that it may already write.
        check(vm.ask(b, Op::Write, at(FREE + 9), word)?.fine, "a store raised an exception")?;
        check(vm.ask(b, Op::Fetch, at(FREE + 9), 0)?.fine, RAISED)
    })
}

/// A large leaf, what is left of it without one page, and the page that comes in its place.
fn sizes<I: Isa>(b: &Bench<'_, I>) -> Run {
    let word = returns(b)?;
    let config = MemoryConfig { huge: HugePolicy::Always, ..MemoryConfig::from((2 * BLOCK) << 12) };
    ProbeVm::with_config(b, config, |vm| {
        for n in [BLOCK, BLOCK + 5, 2 * BLOCK - 1] {
            write_word(&vm.memory, b.cpu, b.m, at(n), word)?;
            check(vm.ask(b, Op::Fetch, at(n), 0)?.fine, RAISED)?;
        }
        vm.memory.discard(b.cpu, b.m, gfns(BLOCK + 5, 1)?);
        for n in [BLOCK, 2 * BLOCK - 1] {
            check(vm.ask(b, Op::Fetch, at(n), 0)?.fine, RAISED)?;
        }
        write_word(&vm.memory, b.cpu, b.m, at(BLOCK + 5), word)?;
        check(vm.ask(b, Op::Fetch, at(BLOCK + 5), 0)?.fine, RAISED)
    })
}

/// What the dirty log takes away to notice stores leaves fetches as they were.
fn no_store<I: Isa>(b: &Bench<'_, I>) -> Run {
    let word = returns(b)?;
    let config = MemoryConfig { huge: HugePolicy::Never, ..MemoryConfig::from(RAM_PAGES << 12) };
    ProbeVm::with_config(b, config, |vm| {
        for n in FREE..FREE + 4 {
            check(vm.ask(b, Op::Write, at(n), word)?.fine, "a store raised an exception")?;
        }
        start(b, &vm.memory)?;
        for _ in 0..2 {
            for n in FREE..FREE + 4 {
                check(vm.ask(b, Op::Fetch, at(n), 0)?.fine, RAISED)?;
            }
            let mut told = 0;
            vm.memory.log_harvest(b.cpu, b.m, &mut |run: GfnRange| told += run.end().0.saturating_sub(FREE));
            check(told == 0, "a fetch was told as a store")?;
        }
        Ok(())
    })
}

/// A window without code, beside RAM.
fn data_only<I: Isa>(b: &Bench<'_, I>) -> Run {
    let word = returns(b)?;
    let mut config = MemoryConfig::from(RAM_PAGES << 12);
    let window = Window {
        gfns: gfns(BLOCK, FREE)?,
        shift: 0,
        prot: Prot::READ | Prot::WRITE,
        backing: Backing::Anon,
        huge: HugePolicy::Never,
    };
    config.windows.push(window).map_err(|_| Stop::Fail("no room for a window"))?;
    ProbeVm::with_config(b, config, |vm| {
        for n in [BLOCK, BLOCK + 3] {
            check(!vm.ask(b, Op::Fetch, at(n), 0)?.fine, "code was fetched where only data may be")?;
            check(vm.ask(b, Op::Write, at(n), word)?.fine, "a store raised an exception")?;
            check(!vm.ask(b, Op::Fetch, at(n), 0)?.fine, "code was fetched where only data may be")?;
            check(vm.ask(b, Op::Read, at(n), 0)?.result == word, "the guest's store is gone")?;
        }
        write_word(&vm.memory, b.cpu, b.m, at(FREE), word)?;
        check(vm.ask(b, Op::Fetch, at(FREE), 0)?.fine, "the guest did not survive its exceptions")
    })
}
