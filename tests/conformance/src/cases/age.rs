//! Which pages were used since somebody last asked.

use hv_core::addr::{Hvn, HvnRange, Order};
use hv_core::host::{HUGE, HugePolicy};
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryConfig, age};

use super::{Case, case, page};
use crate::guest::{ProbeVm, read_word};
use crate::probe::{FREE, Op};
use crate::rig::{Bench, FIRST};
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 2] {
    [case!("age-tells-what-was-used-since", "R15", since), case!("age-tells-the-leaf-that-was-used", "R15", large)]
}

/// The pages and sizes that a look at `pages` of RAM from `first` on tells of, as many as there is room for.
fn look<I: Isa>(
    b: &Bench<'_, I>,
    memory: &GuestMemory<I>,
    first: u64,
    pages: u64,
) -> Result<heapless::Vec<(u64, Order), 8>, Stop> {
    let slot = memory.space().slots.find(&b.m.epoch().enter(b.cpu), page(0).page());
    let ram = slot.and_then(|slot| slot.hvn(page(0).page())).ok_or(Stop::Fail("RAM is in no slot"))?;
    let range = ram.checked_add(first).and_then(|at| HvnRange::new(at, pages)).ok_or(Stop::Fail("no range"))?;
    let mut used = heapless::Vec::new();
    age(b.cpu, b.m, memory.space(), range, &mut |at: Hvn, order| {
        let told = at.since(ram).map(|n| used.push((n, order)));
        debug_assert!(told.is_some_and(|told| told.is_ok()), "told of more than was asked");
    });
    Ok(used)
}

fn since<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        let told = |used: &[u64]| -> Run {
            let seen = look(b, &vm.memory, FREE, 4)?;
            let seen = seen.iter().map(|(n, order)| (*n, *order));
            check(
                seen.eq(used.iter().map(|n| (*n, Order::PAGE))),
                "other pages were used than those that the guest used",
            )
        };
        told(&[])?;
        vm.ask(b, Op::Write, page(FREE), 7)?;
        vm.ask(b, Op::Read, page(FREE + 2), 0)?;
        told(&[FREE, FREE + 2])?;
        told(&[])?;
        check(vm.ask(b, Op::Read, page(FREE), 0)?.result == 7, "a look changed the page")?;
        told(&[FREE])?;
        vm.ask(b, Op::Write, page(FREE), 8)?;
        vm.ask(b, Op::Write, page(FREE + 3), 9)?;
        told(&[FREE, FREE + 3])?;
        check(read_word(&vm.memory, b.cpu, b.m, page(FREE))? == 8, "a look lost a store")
    })
}

fn large<I: Isa>(b: &Bench<'_, I>) -> Run {
    let block = HUGE.pages();
    let config = MemoryConfig { huge: HugePolicy::Always, ..MemoryConfig::from((2 * block) << 12) };
    ProbeVm::with_config(b, config, |vm| {
        let at = page(block + 5);
        vm.ask(b, Op::Write, at, 7)?;
        let seen = look(b, &vm.memory, block + 5, 1)?;
        // A guest that chooses sizes has chosen a small one.
        let leaf = seen.first().filter(|(first, order)| seen.len() == 1 && order.align_down(block + 5) == *first);
        check(leaf.is_some(), "the leaf that was used is another")?;
        check(look(b, &vm.memory, block, block)?.is_empty(), "a block counts as used twice")?;
        check(vm.ask(b, Op::Read, at, 0)?.result == 7, "a look changed the page")?;
        check(look(b, &vm.memory, block, block)? == seen, "a use went unnoticed")
    })
}
