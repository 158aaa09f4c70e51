//! Objects that VMs share.

use alloc::sync::Arc;

use hv_core::heap::Counted;
use hv_core::host::{Backing, HugePolicy};
use hv_core::isa::{Isa, Stage2, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryConfig, MemoryError, Outcome};
use hv_core::page::{Grow, Store, Tmpfs};
use hv_core::radix::format::Pte;
use hv_core::sync::{AtomicU64, Ordering, spin_loop};
use hv_core::vcpu::exit::Access;

use super::huge::{BLOCK, anon};
use super::split::{fill, holds};
use super::{Case, case, fault, gfns, page};
use crate::guest::{read_word, write_word};
use crate::hold::Hold;
use crate::rig::{Bench, FIRST, SECOND};
use crate::store::Heap;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 11] {
    [
        case!("tmpfs-writes-are-seen-by-the-other-vm", "G2", seen_by_other),
        case!("tmpfs-huge-in-one-vm-and-small-in-the-other", "R12", huge_and_small),
        case!("tmpfs-frames-outlive-a-vm", "R24", outlives),
        case!("tmpfs-punch-reaches-every-vm", "R8", punch),
        case!("tmpfs-punch-without-a-table-drops-the-leaf", "P8", punch_starved),
        case!("tmpfs-a-discard-punches-the-object", "R8", discard),
        case!("tmpfs-truncation-takes-the-end-away", "R17", truncate),
        case!("tmpfs-a-region-beyond-the-object-is-refused", "R17", too_small),
        case!("tmpfs-what-is-swapped-out-comes-back", "R13", swap),
        case!("tmpfs-a-full-store-loses-nothing", "P8", full_store),
        case!("race-a-vm-ends-during-punches", "R20", ends_during_punch),
    ]
}

/// Memory of so many pages that shows `object` from its page `first`.
pub(super) fn shown<I: Isa>(object: &Counted<Tmpfs<I>>, first: u64, pages: u64, huge: HugePolicy) -> MemoryConfig<I> {
    MemoryConfig { backing: Backing::Shared { object: Counted::clone(object), first }, ..anon(pages, huge) }
}

/// Gives `with` an object, and frees it however that ends.
pub(super) fn with_object<I: Isa>(
    b: &Bench<'_, I>,
    pages: u64,
    swap: Option<Arc<dyn Store<I::Machine>>>,
    with: impl FnOnce(&Counted<Tmpfs<I>>) -> Run,
) -> Run {
    let object = Tmpfs::with(pages, Grow::Teams, swap).ok_or(Stop::Fail("no heap for an object"))?;
    let run = with(&object);
    let closed = Tmpfs::close(object, b.cpu, b.m).is_ok();
    run.and(check(closed, "an object that no VM maps cannot be freed"))
}

pub(super) fn vm<I: Isa>(b: &Bench<'_, I>, tag: VmTag, config: MemoryConfig<I>) -> Result<GuestMemory<I>, Stop> {
    GuestMemory::new(b.cpu, b.m, tag, config).map_err(|_| Stop::Fail("no memory for a VM"))
}

/// Two VMs that show all of one object, under these policies.
pub(super) fn with_two<I: Isa>(
    b: &Bench<'_, I>,
    object: &Counted<Tmpfs<I>>,
    policies: [HugePolicy; 2],
    with: impl FnOnce(&GuestMemory<I>, &GuestMemory<I>) -> Run,
) -> Run {
    let first = vm(b, FIRST, shown(object, 0, object.pages(), policies[0]))?;
    let second = match vm(b, SECOND, shown(object, 0, object.pages(), policies[1])) {
        Ok(second) => second,
        Err(stop) => {
            first.destroy(b.cpu, b.m);
            return Err(stop);
        }
    };
    let run = with(&first, &second);
    first.destroy(b.cpu, b.m);
    second.destroy(b.cpu, b.m);
    run
}

const SMALL: [HugePolicy; 2] = [HugePolicy::Never; 2];
const HUGE_SMALL: [HugePolicy; 2] = [HugePolicy::Always, HugePolicy::Never];

fn seen_by_other<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, 2 * BLOCK, None, |object| {
        with_two(b, object, SMALL, |first, second| {
            let before = b.free() + first.stats().tables + second.stats().tables;
            fill(b, first, 0..3)?;
            holds(b, second, 0..3, 0..0)?;
            write_word(second, b.cpu, b.m, page(1), 99)?;
            check(read_word(first, b.cpu, b.m, page(1))? == 99, "a write is not seen through the other window")?;
            check(object.stats(b.cpu, b.m).resident == 3, "a page of the object has two frames")?;
            // The first page brought a block, of which three pages live.
            let tables = first.stats().tables + second.stats().tables + object.stats(b.cpu, b.m).tables;
            check(b.free() + BLOCK + tables == before, "the accounts differ from the allocator's")
        })
    })
}

fn huge_and_small<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        with_two(b, object, HUGE_SMALL, |first, second| {
            fill(b, second, 5..6)?;
            fill(b, first, 0..5)?;
            check(first.stats().huge == 1 && second.stats().huge == 0, "the policies were not followed")?;
            check(object.stats(b.cpu, b.m).huge_mappings == 1, "large mappings are miscounted")?;
            fill(b, second, 6..BLOCK)?;
            holds(b, first, 0..BLOCK, 0..0)?;
            holds(b, second, 0..BLOCK, 0..0)?;
            for memory in [first, second] {
                check(fault(b, memory, page(7), Access::Write) == Outcome::Mapped, "no page")?;
            }
            let beside = second.stage2().lookup(b.cpu, b.m, page(8).page());
            check(!matches!(beside, Pte::Leaf(_)), "a page of a team was mapped large where its host leaf is small")
        })
    })
}

fn outlives<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        let one = vm(b, FIRST, shown(object, 0, BLOCK, HugePolicy::Always))?;
        let filled = fill(b, &one, 0..BLOCK);
        one.destroy(b.cpu, b.m);
        filled?;
        let stats = object.stats(b.cpu, b.m);
        check((stats.resident, stats.huge_mappings) == (BLOCK, 0), "a VM that ended took pages along")?;
        let other = vm(b, SECOND, shown(object, 0, BLOCK, HugePolicy::Always))?;
        let run = holds(b, &other, 0..BLOCK, 0..0);
        let kept = check(Tmpfs::close(object.clone(), b.cpu, b.m).is_err(), "an object was freed that a VM maps");
        other.destroy(b.cpu, b.m);
        run.and(kept)
    })
}

fn punch<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, 2 * BLOCK, None, |object| {
        with_two(b, object, HUGE_SMALL, |first, second| {
            fill(b, first, 0..2 * BLOCK)?;
            holds(b, second, 0..2 * BLOCK, 0..0)?;
            for memory in [first, second] {
                check(fault(b, memory, page(BLOCK), Access::Write) == Outcome::Mapped, "no page")?;
            }
            let before = b.free() + first.stats().tables + second.stats().tables;
            check(object.punch(b.cpu, b.m, BLOCK - 2, BLOCK + 3) == 5, "another number of pages went")?;
            for memory in [first, second] {
                let gone = memory.stage2().lookup(b.cpu, b.m, page(BLOCK).page());
                check(!matches!(gone, Pte::Leaf(_)), "a page that was punched out is still mapped")?;
                holds(b, memory, 0..2 * BLOCK, BLOCK - 2..BLOCK + 3)?;
            }
            let tables = first.stats().tables + second.stats().tables;
            check(b.free() + tables == before + 5, "the accounts differ from the allocator's")?;
            let stats = object.stats(b.cpu, b.m);
            check(
                (stats.broken, stats.complete, stats.resident) == (2, 0, 2 * BLOCK - 5),
                "the teams were not broken",
            )?;
            write_word(second, b.cpu, b.m, page(BLOCK), 7)?;
            check(read_word(first, b.cpu, b.m, page(BLOCK))? == 7, "a page that came back is not shared")
        })
    })
}

fn punch_starved<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        with_two(b, object, HUGE_SMALL, |first, second| {
            fill(b, first, 0..BLOCK)?;
            check(fault(b, first, page(9), Access::Write) == Outcome::Mapped, "no page")?;
            let hold = Hold::everything(b.cpu, b.m.frames());
            object.punch(b.cpu, b.m, 4, 8);
            drop(hold);
            check(first.stats().resident == 0, "a leaf that could not be split is still there")?;
            let beside = first.stage2().lookup(b.cpu, b.m, page(9).page());
            check(!matches!(beside, Pte::Leaf(_)), "a page that was punched out is still mapped")?;
            holds(b, first, 0..BLOCK, 4..8)?;
            holds(b, second, 0..BLOCK, 4..8)
        })
    })
}

fn discard<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        with_two(b, object, SMALL, |first, second| {
            fill(b, first, 0..8)?;
            second.discard(b.cpu, b.m, gfns(2, 3)?);
            holds(b, first, 0..8, 2..5)
        })
    })
}

fn truncate<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, 2 * BLOCK, None, |object| {
        with_two(b, object, SMALL, |first, second| {
            fill(b, first, BLOCK - 4..BLOCK + 4)?;
            check(object.truncate(b.cpu, b.m, BLOCK) == BLOCK, "the end did not go, with all that was ready for it")?;
            check(
                fault(b, second, page(BLOCK + 1), Access::Read) == Outcome::NoSlot,
                "memory beyond the object's end",
            )?;
            check(first.write(b.cpu, b.m, page(BLOCK), &[1; 8]).is_err(), "a write beyond the object's end")?;
            holds(b, second, BLOCK - 4..BLOCK, 0..0)
        })
    })
}

fn too_small<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        let beyond = [(0, BLOCK + 1), (1, BLOCK), (u64::MAX, 1)];
        for (first, pages) in beyond {
            let refused = GuestMemory::new(b.cpu, b.m, FIRST, shown(object, first, pages, HugePolicy::Never));
            let refused = refused.map(|memory| memory.destroy(b.cpu, b.m));
            check(refused == Err(MemoryError::BadSize), "a region shows what the object does not have")?;
        }
        Ok(())
    })
}

fn swap<I: Isa>(b: &Bench<'_, I>) -> Run {
    let store = Heap::new(b, usize::MAX)?;
    with_object(b, BLOCK, Some(store.clone()), |object| {
        with_two(b, object, HUGE_SMALL, |first, second| {
            fill(b, first, 0..BLOCK)?;
            holds(b, second, 0..4, 0..0)?;
            let before = b.free() + first.stats().tables + second.stats().tables;
            check(object.swap_out(b.cpu, b.m, 3) == Ok(BLOCK), "not all of the extent went")?;
            check(store.kept() as u64 == BLOCK && object.stats(b.cpu, b.m).resident == 0, "a page went nowhere")?;
            let tables = first.stats().tables + second.stats().tables;
            check(b.free() + tables == before + BLOCK, "the frames did not come back")?;
            holds(b, second, 9..10, 0..0)?;
            check(store.kept() as u64 == BLOCK - 1, "the store keeps what came back")?;
            object.punch(b.cpu, b.m, 10, 12);
            check(store.kept() as u64 == BLOCK - 3, "the store keeps what was punched out")?;
            for n in 0..BLOCK {
                check(fault(b, first, page(n), Access::Write) == Outcome::Mapped, "no page")?;
            }
            holds(b, first, 0..BLOCK, 10..12)?;
            check(store.kept() == 0, "the store keeps what came back")
        })
    })
}

fn full_store<I: Isa>(b: &Bench<'_, I>) -> Run {
    let store = Heap::new(b, 3)?;
    with_object(b, BLOCK, Some(store.clone()), |object| {
        with_two(b, object, SMALL, |first, second| {
            fill(b, first, 0..8)?;
            check(object.swap_out(b.cpu, b.m, 0) == Ok(3), "more went than there is room for")?;
            check(object.stats(b.cpu, b.m).resident == 5, "a page for which there is no room went all the same")?;
            for n in 0..8 {
                check(fault(b, second, page(n), Access::Read) == Outcome::Mapped, "no page")?;
            }
            holds(b, second, 0..8, 0..0)
        })
    })
}

/// One CPU punches, another builds VMs on the object and takes them apart.
fn ends_during_punch<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, 2 * BLOCK, None, |object| {
        let (stop, trouble) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut here = Ok(());
        let ran = b.rig.both(
            &|cpu| {
                let mut at = 0;
                while stop.load(Ordering::Acquire) == 0 {
                    object.punch(cpu, b.m, at, at + 40);
                    at = (at + 13) % (2 * BLOCK);
                    spin_loop();
                }
            },
            &mut |cpu| {
                here = (0..12).try_for_each(|round| {
                    let policy = if round % 2 == 0 { HugePolicy::Always } else { HugePolicy::Never };
                    let config = shown(object, 0, 2 * BLOCK, policy);
                    let memory = GuestMemory::new(cpu, b.m, FIRST, config).map_err(|_| Stop::Fail("no memory"))?;
                    for n in (0..2 * BLOCK).step_by(97) {
                        let wrote = memory.write(cpu, b.m, page(n), &[1; 8]).is_ok();
                        trouble.fetch_add(u64::from(!wrote), Ordering::Relaxed);
                    }
                    memory.destroy(cpu, b.m);
                    Ok(())
                });
                stop.store(1, Ordering::Release);
            },
        );
        if !ran {
            return Err(Stop::Skip("needs two CPUs"));
        }
        here?;
        check(trouble.load(Ordering::Relaxed) == 0, "a write failed beside a punch")
    })
}
