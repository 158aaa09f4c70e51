//! What a commit section publishes: the page and the size that the host table has then, as far as every bound allows.

use hv_core::addr::{Gfn, Hvn, HvnRange, Order};
use hv_core::host::{HUGE, HugePolicy, Populate};
use hv_core::isa::{Isa, MapError, SizeRule, Stage2};
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::zap::{invalidate, rewindow};
use hv_core::mmu::{GuestMemory, Outcome};
use hv_core::notifier::InvalidateSeq;
use hv_core::radix::format::{Prot, Pte};
use hv_core::vcpu::exit::Access;

use super::huge::{BLOCK, anon};
use super::{Case, case, fault, gfns, page, size_at, wants_blocks};
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 9] {
    [
        case!("commit-wants-the-page-to-be-there", "R6", page_gone),
        case!("commit-takes-the-size-of-the-leaf-that-is-there", "R11", size_now),
        case!("commit-wants-what-the-access-needs", "R6", needs_more),
        case!("commit-large-leaf-under-a-bracket-beside-the-page", "R6", bracket_beside),
        case!("level-slot-bounds-and-alignment", "G3", slot_bounds),
        case!("level-a-table-makes-way-for-a-large-leaf", "R10", table_makes_way),
        case!("zap-leaves-no-table-however-many-there-are", "R20", many_tables),
        case!("slots-a-moved-window-shows-the-other-pages", "R17", moved),
        case!("slots-faults-that-went-by-the-old-set-give-up", "R17", old_set),
    ]
}

const LARGE: u64 = 2 * BLOCK;

/// Memory of two blocks, huge wherever it can be, and the host page behind its first.
fn with<I: Isa>(b: &Bench<'_, I>, huge: HugePolicy, with: impl FnOnce(&GuestMemory<I>, Hvn) -> Run) -> Run {
    b.with_config(anon(LARGE, huge), |memory| {
        let slot = memory.space().slots.find(&b.m.epoch().enter(b.cpu), Gfn(0)).ok_or(Stop::Fail("no slot"))?;
        with(memory, slot.hvn(Gfn(0)).ok_or(Stop::Fail("no page"))?)
    })
}

/// Memory that is huge wherever it can be, if stage 2 may have large leaves.
fn with_large<I: Isa>(b: &Bench<'_, I>, run: impl FnOnce(&GuestMemory<I>, Hvn) -> Run) -> Run {
    with(b, HugePolicy::Always, |memory, base| {
        match memory.stage2().size_rule(&b.rig.claim(memory.stage2(), page(0), HUGE)) {
            SizeRule::AnyOf(orders) if !orders.contains(HUGE) => Err(Stop::Skip("stage 2 has no large leaves")),
            SizeRule::AnyOf(_) | SizeRule::Exactly(_) => {
                wants_blocks(b, memory)?;
                run(memory, base)
            }
        }
    })
}

fn slot(first: u64, pages: u64, base: Hvn) -> Result<Slot, Stop> {
    Slot::new(gfns(first, pages)?, base, Prot::all()).map_err(|_| Stop::Fail("no slot"))
}

/// The slots of the VM become these.
fn show<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, slots: &[Slot]) -> Run {
    check(rewindow(b.cpu, b.m, memory.space(), slots).is_ok(), "windows were refused")
}

/// The second half of a fault on `gfn` that sampled `seq` and went by `slot`.
fn publish<I: Isa>(
    b: &Bench<'_, I>,
    memory: &GuestMemory<I>,
    seq: InvalidateSeq,
    slot: &Slot,
    gfn: Gfn,
    need: Prot,
) -> Result<Order, MapError> {
    let space = memory.space();
    let hvn = slot.hvn(gfn).ok_or(MapError::Retry)?;
    let gpa = gfn.addr().ok_or(MapError::Retry)?;
    let claim = b.rig.claim(&space.stage2, gpa, size_at(b, memory, gpa));
    let to = space.target(b.m, claim, need);
    let section = space.mmu.enter(b.cpu, b.m.epoch());
    let fresh = section.revalidate(seq, HvnRange::new(hvn, 1).ok_or(MapError::Retry)?)?;
    let primary = fresh.primary(b.m, &space.host, hvn)?;
    fresh.install(&to, slot, gfn, primary)
}

fn populate<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, hvn: Hvn) -> Run {
    let there = memory.space().host.populate(b.cpu, b.m, hvn);
    check(matches!(there, Populate::Present(_) | Populate::Fresh(_)), "no page in the host table")
}

/// The first frame of the translation of `gfn`.
fn mapped<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, gfn: u64) -> Option<u64> {
    match memory.stage2().lookup(b.cpu, b.m, Gfn(gfn)) {
        Pte::Leaf(leaf) => Some(leaf.pfn.0),
        Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => None,
    }
}

fn page_gone<I: Isa>(b: &Bench<'_, I>) -> Run {
    with(b, HugePolicy::Never, |memory, base| {
        let slot = slot(0, LARGE, base)?;
        let seq = memory.space().mmu.sample();
        let absent = publish(b, memory, seq, &slot, Gfn(3), Prot::READ);
        check(absent == Err(MapError::Retry) && mapped(b, memory, 3).is_none(), "a page that is not there is mapped")?;
        let seq = memory.space().mmu.sample();
        populate(b, memory, Hvn(base.0 + 3))?;
        let there = publish(b, memory, seq, &slot, Gfn(3), Prot::READ);
        check(there == Ok(Order::PAGE), "a page that came after the sample, without any bracket, is refused")
    })
}

fn size_now<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_large(b, |memory, base| {
        let slot = slot(0, LARGE, base)?;
        populate(b, memory, base)?;
        let whole = publish(b, memory, memory.space().mmu.sample(), &slot, Gfn(3), Prot::READ);
        check(whole == Ok(HUGE), "a large leaf is not mapped as one")?;
        // Discarding one page splits the leaf: the frames of the others stay, their size does not.
        memory.discard(b.cpu, b.m, gfns(9, 1)?);
        let part = publish(b, memory, memory.space().mmu.sample(), &slot, Gfn(3), Prot::READ);
        check(part == Ok(Order::PAGE), "pages of a block that has been split are mapped as one")?;
        check(mapped(b, memory, 9).is_none(), "a discarded page is mapped through its block")
    })
}

fn needs_more<I: Isa>(b: &Bench<'_, I>) -> Run {
    with(b, HugePolicy::Never, |memory, base| {
        populate(b, memory, base)?;
        let slot = Slot::new(gfns(0, LARGE)?, base, Prot::READ).map_err(|_| Stop::Fail("no slot"))?;
        let store = publish(b, memory, memory.space().mmu.sample(), &slot, Gfn(0), Prot::WRITE);
        check(store == Err(MapError::Retry), "a store was answered with a translation that does not allow it")?;
        let load = publish(b, memory, memory.space().mmu.sample(), &slot, Gfn(0), Prot::READ);
        let Pte::Leaf(leaf) = memory.stage2().lookup(b.cpu, b.m, Gfn(0)) else {
            return check(false, "a published page is not there");
        };
        check(load == Ok(Order::PAGE) && leaf.prot == Prot::READ, "a page allows more than its window does")
    })
}

fn bracket_beside<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_large(b, |memory, base| {
        let slot = slot(0, LARGE, base)?;
        populate(b, memory, base)?;
        let beside = HvnRange::new(Hvn(base.0 + 9), 1).ok_or(Stop::Fail("no range"))?;
        let during = invalidate(b.cpu, b.m, memory.space(), beside, |_| {
            publish(b, memory, memory.space().mmu.sample(), &slot, Gfn(3), Prot::READ)
        });
        check(during == Err(MapError::Retry), "a large leaf was published over a page that a bracket covers")?;
        let after = publish(b, memory, memory.space().mmu.sample(), &slot, Gfn(3), Prot::READ);
        check(after == Ok(HUGE), "a large leaf is refused after the bracket")
    })
}

fn slot_bounds<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_large(b, |memory, base| {
        populate(b, memory, base)?;
        let at = |n| Hvn(base.0 + n);
        // First guest frame, pages, first host page, a guest frame in it, what is wrong with it.
        let small = [
            (1, BLOCK - 1, at(1), 3, "a slot that begins inside the block"),
            (0, BLOCK - 1, at(0), 3, "a slot that ends inside the block"),
            (BLOCK + 1, BLOCK, at(0), BLOCK + 3, "a slot whose guest frames lie askew"),
            (0, BLOCK, at(1), 3, "a slot whose host pages lie askew"),
        ];
        for (first, pages, start, gfn, why) in small {
            show(b, memory, &[slot(first, pages, start)?])?;
            check(fault(b, memory, page(gfn), Access::Read) == Outcome::Mapped, "a fault on RAM was not answered")?;
            check(memory.census(b.cpu, b.m).leaves(HUGE) == 0, why)?;
        }
        show(b, memory, &[slot(BLOCK, BLOCK, base)?])?;
        check(fault(b, memory, page(BLOCK + 3), Access::Read) == Outcome::Mapped, "a fault on RAM was not answered")?;
        check(memory.census(b.cpu, b.m).leaves(HUGE) == 1, "a slot that shows just the block gets no large leaf")
    })
}

fn table_makes_way<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_large(b, |memory, base| {
        if let SizeRule::Exactly(_) = memory.stage2().size_rule(&b.rig.claim(memory.stage2(), page(0), HUGE)) {
            return Err(Stop::Skip("a hashed table has no tables in it"));
        }
        // Half a block through a window is mapped page by page, and leaves a table when the window grows.
        show(b, memory, &[slot(0, BLOCK / 2, base)?])?;
        for gfn in 0..BLOCK / 2 {
            check(fault(b, memory, page(gfn), Access::Write) == Outcome::Mapped, "a fault on RAM was not answered")?;
        }
        let small = memory.census(b.cpu, b.m);
        check((small.leaves(Order::PAGE), small.leaves(HUGE)) == (BLOCK / 2, 0), "half a block has a large leaf")?;
        show(b, memory, &[slot(0, BLOCK, base)?])?;
        let tables = memory.stats().tables;
        check(fault(b, memory, page(1), Access::Write) == Outcome::Mapped, "a table in the way is in the way")?;
        let large = memory.census(b.cpu, b.m);
        check((large.leaves(Order::PAGE), large.leaves(HUGE)) == (0, 1), "the block is not mapped with one leaf")?;
        check(memory.stats().tables < tables, "the table that made way was not freed")
    })
}

fn many_tables<I: Isa>(b: &Bench<'_, I>) -> Run {
    // More tables than a flush holds back without heap.
    const TABLES: u64 = 40;
    b.with_config(anon(TABLES * BLOCK, HugePolicy::Never), |memory| {
        let before = memory.stage2().table_frames();
        for n in 0..TABLES {
            check(fault(b, memory, page(n * BLOCK), Access::Write) == Outcome::Mapped, "a fault was not answered")?;
        }
        let flushes = memory.stats().flushes;
        memory.discard(b.cpu, b.m, gfns(0, TABLES * BLOCK)?);
        check(memory.stats().flushes == flushes + 1, "a range takes more than one flush, or none")?;
        memory.discard(b.cpu, b.m, gfns(0, TABLES * BLOCK)?);
        check(memory.stats().flushes == flushes + 1, "a flush for nothing")?;
        let left = memory.stage2().table_frames().saturating_sub(before);
        // Tables that hold more keys than the VM has pages stay.
        check(left <= 2, "stage-2 tables that hold nothing are left behind")
    })
}

fn moved<I: Isa>(b: &Bench<'_, I>) -> Run {
    with(b, HugePolicy::Never, |memory, base| {
        for gfn in 0..4 {
            check(fault(b, memory, page(gfn), Access::Write) == Outcome::Mapped, "a fault on RAM was not answered")?;
        }
        let before = (mapped(b, memory, 0), mapped(b, memory, 2));
        show(b, memory, &[slot(0, 2, Hvn(base.0 + 2))?])?;
        check((0..4).all(|gfn| mapped(b, memory, gfn).is_none()), "an old window's translation is left")?;
        check(fault(b, memory, page(0), Access::Write) == Outcome::Mapped, "a fault on RAM was not answered")?;
        check(mapped(b, memory, 0) == before.1 && before.0 != before.1, "a moved window shows the old page")?;
        check(fault(b, memory, page(2), Access::Write) == Outcome::NoSlot, "a fault outside of the new window")
    })
}

fn old_set<I: Isa>(b: &Bench<'_, I>) -> Run {
    with(b, HugePolicy::Never, |memory, base| {
        populate(b, memory, base)?;
        let (old, seq) = (slot(0, LARGE, base)?, memory.space().mmu.sample());
        show(b, memory, &[slot(0, 2, Hvn(base.0 + 2))?])?;
        let late = publish(b, memory, seq, &old, Gfn(0), Prot::READ);
        check(late == Err(MapError::Retry), "a window that was moved away was published through")?;
        let seq = memory.space().mmu.sample();
        show(b, memory, &[slot(0, 2, Hvn(base.0 + 2))?])?;
        let same = memory.space().slots.find(&b.m.epoch().enter(b.cpu), Gfn(0)).ok_or(Stop::Fail("no slot"))?;
        populate(b, memory, Hvn(base.0 + 2))?;
        let kept = publish(b, memory, seq, &same, Gfn(0), Prot::READ);
        check(kept == Ok(Order::PAGE), "a set replaced by an equal one made a fault give up")
    })
}
