//! Many pages mapped before the guest asks: every one of them, and none beside.

use hv_core::addr::{Gfn, GfnRange, Hvn, HvnRange, Order};
use hv_core::epoch::Cpu;
use hv_core::host::{HUGE, HugePolicy, Peek, Populate};
use hv_core::isa::{MapError, Stage2};
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::zap::{invalidate, rewindow};
use hv_core::mmu::{GuestMemory, MemoryConfig, Outcome};
use hv_core::radix::format::{Prot, Pte};
use hv_core::vcpu::exit::{Access, Fault};

use super::{TAG, broken, gfns, on_machine};
use crate::{FakeMachine, FakeRadix};

const BLOCK: u64 = HUGE.pages();
/// Pages of the VM.
const PAGES: u64 = 4 * BLOCK;

type Memory = GuestMemory<FakeRadix>;

/// A VM, and the oracles asked once `with` is done with it.
fn with_vm(huge: HugePolicy, with: impl FnOnce(&FakeMachine, &Cpu, &Memory)) {
    on_machine(|m, cpu| {
        let memory = Memory::new(cpu, m, TAG, MemoryConfig { huge, ..MemoryConfig::from(PAGES << 12) }).unwrap();
        with(m, cpu, &memory);
        m.check(cpu, memory.space());
        memory.destroy(cpu, m);
        assert_eq!(broken(m), Vec::<String>::new());
    });
}

/// Exactly `range` is mapped, each page to the frame that the host table has behind it.
fn just(m: &FakeMachine, cpu: &Cpu, memory: &Memory, range: &GfnRange) {
    for n in 0..PAGES {
        let found = look(m, cpu, memory, n);
        assert_eq!(matches!(found, Pte::Leaf(_)), range.contains(Gfn(n)), "{n}: {found:?}");
        if let Pte::Leaf(leaf) = found {
            let guard = m.epoch().enter(cpu);
            let Peek::Page(page) = memory.space().host.peek(m, &guard, hvn(n)) else { panic!("nothing is behind {n}") };
            // A large leaf names the first frame of its block.
            assert_eq!(leaf.pfn.0 | n & (page.order.pages() - 1), page.pfn.0, "{n}");
        }
    }
}

/// The host page behind guest frame `n`: RAM begins at 16 TiB.
fn hvn(n: u64) -> Hvn {
    Hvn((1 << 32) + n)
}

fn slot(pages: u64) -> Slot {
    Slot::new(gfns(0, pages), hvn(0), Prot::all()).unwrap()
}

fn map_range(m: &FakeMachine, cpu: &Cpu, memory: &Memory, range: GfnRange) {
    assert_eq!(memory.map_range(cpu, m, range, Access::Write), Outcome::Mapped);
}

fn touch(m: &FakeMachine, cpu: &Cpu, memory: &Memory, n: u64) {
    let fault = Fault { gpa: Gfn(n).addr().unwrap(), access: Access::Write, claim: () };
    assert_eq!(memory.fault(cpu, m, &fault), Outcome::Mapped);
}

fn populate(m: &FakeMachine, cpu: &Cpu, memory: &Memory, pages: impl Iterator<Item = u64>) {
    for n in pages {
        assert!(matches!(memory.space().host.populate(cpu, m, hvn(n)), Populate::Fresh(_) | Populate::Present(_)));
    }
}

fn look(m: &FakeMachine, cpu: &Cpu, memory: &Memory, n: u64) -> Pte {
    Stage2::<FakeRadix>::lookup(memory.stage2(), cpu, m, Gfn(n))
}

fn tables(memory: &Memory) -> u64 {
    Stage2::<FakeRadix>::table_frames(memory.stage2())
}

/// One section over `range`: what `install_each` answers, or that the proof was refused. `between` comes after the sample.
fn install(
    m: &FakeMachine,
    cpu: &Cpu,
    memory: &Memory,
    range: GfnRange,
    between: impl FnOnce(),
) -> Result<Gfn, MapError> {
    let space = memory.space();
    let seq = space.mmu.sample();
    between();
    let to = space.target(m, (), Prot::WRITE);
    let section = space.mmu.enter(cpu, m.epoch());
    let pages = HvnRange::new(hvn(range.start().0), range.pages()).unwrap();
    section.revalidate(seq, pages)?.install_each(&to, &space.host, &slot(PAGES), range)
}

#[test]
fn r11_the_edges_of_a_range_are_its_edges() {
    for (start, pages) in [(0, PAGES), (0, 1), (BLOCK - 1, 2), (5, BLOCK), (BLOCK, BLOCK), (PAGES - 3, 3)] {
        with_vm(HugePolicy::Never, |m, cpu, memory| {
            let range = gfns(start, pages);
            map_range(m, cpu, memory, range);
            just(m, cpu, memory, &range);
            // Once more finds all of it there, and a wider one adds the rest.
            map_range(m, cpu, memory, range);
            just(m, cpu, memory, &range);
            map_range(m, cpu, memory, gfns(0, PAGES));
            just(m, cpu, memory, &gfns(0, PAGES));
        });
    }
}

#[test]
fn r19_a_table_that_is_there_is_filled_and_not_replaced() {
    with_vm(HugePolicy::Never, |m, cpu, memory| {
        touch(m, cpu, memory, 7);
        touch(m, cpu, memory, BLOCK + 1);
        let before = tables(memory);
        map_range(m, cpu, memory, gfns(5, 2 * BLOCK));
        just(m, cpu, memory, &gfns(5, 2 * BLOCK));
        assert_eq!(tables(memory), before + 1, "the third block had no leaf table");
        memory.discard(cpu, m, gfns(0, PAGES));
        assert_eq!(tables(memory), before - 2, "leaf tables are lost");
    });
}

#[test]
fn r6_a_hole_ends_a_batch() {
    for (table, hole) in [(false, 100), (true, 100), (false, BLOCK - 1), (false, BLOCK - 5)] {
        with_vm(HugePolicy::Never, |m, cpu, memory| {
            if table {
                touch(m, cpu, memory, 120);
                touch(m, cpu, memory, hole - 1);
            }
            populate(m, cpu, memory, (0..BLOCK).filter(|n| *n != hole));
            assert_eq!(install(m, cpu, memory, gfns(0, BLOCK), || {}), Ok(Gfn(hole)));
            if !table {
                just(m, cpu, memory, &gfns(0, hole));
            }
            assert_eq!(install(m, cpu, memory, gfns(hole, 1), || {}), Ok(Gfn(hole)), "nothing is there");
            assert!(!matches!(look(m, cpu, memory, hole), Pte::Leaf(_)), "a hole was mapped");
            map_range(m, cpu, memory, gfns(0, BLOCK));
            just(m, cpu, memory, &gfns(0, BLOCK));
        });
    }
}

#[test]
fn r6_a_bracket_since_the_sample_refuses_the_batch() {
    with_vm(HugePolicy::Never, |m, cpu, memory| {
        populate(m, cpu, memory, 0..BLOCK);
        let page = |n| HvnRange::new(hvn(n), 1).unwrap();
        let ended = || invalidate(cpu, m, memory.space(), page(BLOCK + 9), |_| {});
        assert_eq!(install(m, cpu, memory, gfns(0, BLOCK), ended), Err(MapError::Retry), "one that ended, anywhere");
        invalidate(cpu, m, memory.space(), page(9), |_| {
            assert_eq!(install(m, cpu, memory, gfns(0, BLOCK), || {}), Err(MapError::Retry), "one that is open");
            assert_eq!(install(m, cpu, memory, gfns(10, 50), || {}), Ok(Gfn(60)), "one that is open beside it");
        });
        just(m, cpu, memory, &gfns(10, 50));
    });
}

#[test]
fn r6_a_large_leaf_under_a_bracket_beside_the_batch_ends_it() {
    with_vm(HugePolicy::Advise, |m, cpu, memory| {
        memory.advise(cpu, m, gfns(BLOCK, BLOCK));
        populate(m, cpu, memory, 0..2 * BLOCK);
        let beside = HvnRange::new(hvn(2 * BLOCK - 1), 1).unwrap();
        invalidate(cpu, m, memory.space(), beside, |_| {
            assert_eq!(install(m, cpu, memory, gfns(BLOCK - 9, 20), || {}), Ok(Gfn(BLOCK)));
            assert_eq!(install(m, cpu, memory, gfns(BLOCK, 20), || {}), Err(MapError::Retry));
        });
        just(m, cpu, memory, &gfns(BLOCK - 9, 9));
        assert_eq!(install(m, cpu, memory, gfns(BLOCK - 9, 20), || {}), Ok(Gfn(BLOCK + 11)));
        just(m, cpu, memory, &gfns(BLOCK - 9, BLOCK + 9));
    });
}

#[test]
fn r11_large_leaves_amid_small_ones() {
    with_vm(HugePolicy::Advise, |m, cpu, memory| {
        memory.advise(cpu, m, gfns(BLOCK, 2 * BLOCK));
        map_range(m, cpu, memory, gfns(100, 3 * BLOCK));
        // A translation of a large leaf is of all of it.
        just(m, cpu, memory, &gfns(100, 3 * BLOCK));
        let census = memory.census(cpu, m);
        assert_eq!((census.leaves(HUGE), census.leaves(Order::PAGE)), (2, BLOCK));
    });
}

#[test]
fn r10_a_table_in_the_way_inside_a_batch_makes_way() {
    with_vm(HugePolicy::Advise, |m, cpu, memory| {
        memory.advise(cpu, m, gfns(BLOCK, BLOCK));
        // Half of the block in the window: small pages, and a table that stays when the window grows.
        rewindow(cpu, m, memory.space(), &[slot(BLOCK + BLOCK / 2)]).unwrap();
        touch(m, cpu, memory, BLOCK + 1);
        rewindow(cpu, m, memory.space(), &[slot(PAGES)]).unwrap();
        map_range(m, cpu, memory, gfns(BLOCK - 100, BLOCK));
        just(m, cpu, memory, &gfns(BLOCK - 100, BLOCK + 100));
        assert_eq!(memory.census(cpu, m).leaves(HUGE), 1);
    });
}
