//! Teams: when they are mapped large, and each reason why not.

use hv_core::heap::Counted;
use hv_core::host::{Backing, HUGE, HugePolicy, NotCollapsed, NotHuge, ScanCursor, Scanned};
use hv_core::isa::{Isa, Stage2};
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryConfig, Outcome, Window};
use hv_core::page::{Grow, Tmpfs};
use hv_core::radix::format::{Prot, Pte};
use hv_core::vcpu::exit::Access;

use super::huge::{BLOCK, anon};
use super::split::{fill, holds};
use super::tmpfs::{shown, vm, with_object, with_two};
use super::{Case, case, fault, gfns, page, wants_blocks};
use crate::rig::{Bench, FIRST, SECOND};
use crate::store::Heap;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 13] {
    [
        case!("team-grows-page-by-page-and-is-mapped-whole", "R11", grows),
        case!("team-complete-is-large-at-the-next-vms-first-touch", "R11", first_touch),
        case!("team-not-huge-askew", "G3", askew),
        case!("team-not-huge-no-team", "R12", no_team),
        case!("team-not-huge-broken", "R12", broken),
        case!("team-not-huge-incomplete", "R11", incomplete),
        case!("team-not-huge-swapped", "R13", swapped),
        case!("team-not-huge-host-leaf-is-not-the-heads", "R12", host_leaf),
        case!("team-not-huge-reserved", "R24", reserved),
        case!("team-not-huge-already", "R10", already),
        case!("team-not-huge-slot-disallows", "R11", slot),
        case!("team-swapped-out-late-fault-maps-one-page", "R13", late_fault),
        case!("team-shrinker-takes-what-never-lived", "R13", shrink),
    ]
}

fn scan<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>) -> Scanned {
    memory.scan(b.cpu, b.m, &mut ScanCursor::default())
}

fn refused<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, why: NotHuge) -> Run {
    check(
        scan(b, memory) == Scanned::Kept(NotCollapsed::NotHuge(why)),
        "the block was not refused, or for another reason",
    )?;
    check(memory.stats().huge == 0, "a block that was refused is mapped large")
}

/// How many leaves of 2 MiB the guest's translations have.
fn large<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>) -> u64 {
    memory.census(b.cpu, b.m).leaves(HUGE)
}

/// Two VMs on one object: the first maps pages only, the second may map blocks but has touched page by page before the
/// team was complete.
fn with_late<I: Isa>(
    b: &Bench<'_, I>,
    object: &Counted<Tmpfs<I>>,
    with: impl FnOnce(&GuestMemory<I>, &GuestMemory<I>) -> Run,
) -> Run {
    with_two(b, object, [HugePolicy::Never, HugePolicy::Advise], |small, late| {
        check(fault(b, late, page(3), Access::Write) == Outcome::Mapped, "no page")?;
        late.advise(b.cpu, b.m, gfns(0, BLOCK)?);
        with(small, late)
    })
}

fn grows<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        with_late(b, object, |small, late| {
            wants_blocks(b, late)?;
            fill(b, small, 0..BLOCK - 1)?;
            check(object.stats(b.cpu, b.m).building == 1, "a team with one page missing is complete")?;
            check(late.stats().huge == 0, "an incomplete team is mapped large")?;
            fill(b, small, BLOCK - 1..BLOCK)?;
            check(object.stats(b.cpu, b.m).complete == 1, "a team with all pages is not complete")?;
            check(matches!(scan(b, late), Scanned::Collapsed(HUGE, _)), "a complete team was not mapped large")?;
            check(late.stats().huge == 1 && object.stats(b.cpu, b.m).huge_mappings == 1, "the accounts are wrong")?;
            check(fault(b, late, page(7), Access::Write) == Outcome::Mapped, "no page")?;
            check(large(b, late) == 1, "stage 2 does not follow the host leaf")?;
            holds(b, late, 0..BLOCK, 0..0)?;
            fill(b, late, 0..BLOCK)?;
            holds(b, small, 0..BLOCK, 0..0)
        })
    })
}

fn first_touch<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        with_two(b, object, [HugePolicy::Never, HugePolicy::Always], |small, huge| {
            wants_blocks(b, huge)?;
            fill(b, small, 0..BLOCK)?;
            check(fault(b, huge, page(9), Access::Write) == Outcome::Mapped, "no page")?;
            check(huge.stats().huge == 1 && large(b, huge) == 1, "a complete team came in pages")?;
            holds(b, huge, 0..BLOCK, 0..0)
        })
    })
}

fn askew<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, 2 * BLOCK, None, |object| {
        let whole = vm(b, FIRST, shown(object, 0, 2 * BLOCK, HugePolicy::Always))?;
        let filled = fill(b, &whole, 0..2 * BLOCK);
        // From the object's second page on: each of its blocks lies across two of the object's.
        let askew = vm(b, SECOND, shown(object, 1, BLOCK, HugePolicy::Always));
        let run = askew.and_then(|askew| {
            let run = filled.and_then(|()| {
                check(fault(b, &askew, page(0), Access::Write) == Outcome::Mapped, "no page")?;
                refused(b, &askew, NotHuge::Askew)?;
                check(large(b, &askew) == 0, "a block that begins elsewhere was mapped large")?;
                let mut bytes = [0; 8];
                let read = askew.read(b.cpu, b.m, page(0), &mut bytes).is_ok();
                check(read && u64::from_le_bytes(bytes) == 2, "the window shows another page")
            });
            askew.destroy(b.cpu, b.m);
            run
        });
        whole.destroy(b.cpu, b.m);
        run
    })
}

fn no_team<I: Isa>(b: &Bench<'_, I>) -> Run {
    let object = Tmpfs::with(BLOCK, Grow::Pages, None).ok_or(Stop::Fail("no heap for an object"))?;
    let run = with_two(b, &object, [HugePolicy::Never, HugePolicy::Always], |small, huge| {
        fill(b, small, 0..BLOCK)?;
        holds(b, huge, 0..BLOCK, 0..0)?;
        check(fault(b, huge, page(1), Access::Write) == Outcome::Mapped, "no page")?;
        refused(b, huge, NotHuge::NoTeam)
    });
    run.and(check(Tmpfs::close(object, b.cpu, b.m).is_ok(), "an object that no VM maps cannot be freed"))
}

fn broken<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        with_late(b, object, |small, late| {
            fill(b, small, 0..BLOCK)?;
            object.punch(b.cpu, b.m, 40, 41);
            // All pages are there again, 511 of them where they were.
            fill(b, small, 40..41)?;
            check(fault(b, late, page(3), Access::Write) == Outcome::Mapped, "no page")?;
            refused(b, late, NotHuge::NoTeam)?;
            holds(b, late, 0..BLOCK, 0..0)
        })
    })
}

fn incomplete<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        with_late(b, object, |small, late| {
            fill(b, small, 0..BLOCK - 1)?;
            refused(b, late, NotHuge::Incomplete)
        })
    })
}

/// Swaps the object's first extent out, and does `between` after it was unmapped and before it is marked.
fn swapping<I: Isa>(
    b: &Bench<'_, I>,
    between: impl FnOnce(&Counted<Tmpfs<I>>, &GuestMemory<I>, &GuestMemory<I>) -> Run,
    after: impl FnOnce(&Counted<Tmpfs<I>>, &GuestMemory<I>, u64) -> Run,
) -> Run {
    let store = Heap::new(b, usize::MAX)?;
    with_object(b, BLOCK, Some(store), |object| {
        with_two(b, object, [HugePolicy::Never, HugePolicy::Always], |small, huge| {
            fill(b, huge, 0..BLOCK)?;
            check(huge.stats().huge == 1, "no block")?;
            let mut meanwhile = Ok(());
            let went = object.swap_out_with(b.cpu, b.m, 0, || meanwhile = between(object, small, huge));
            meanwhile?;
            after(object, huge, went.map_err(|_| Stop::Fail("nothing was swapped out"))?)
        })
    })
}

fn swapped<I: Isa>(b: &Bench<'_, I>) -> Run {
    swapping(
        b,
        |object, _, huge| {
            check(huge.stats().resident == 0, "the extent is still mapped")?;
            check(fault(b, huge, page(5), Access::Write) == Outcome::Mapped, "no page")?;
            refused(b, huge, NotHuge::Swapped)?;
            check(object.stats(b.cpu, b.m).complete == 0, "an extent in swapping's hands counts as a team")
        },
        |_, huge, went| {
            check(went == BLOCK - 1, "a page that was touched again went all the same")?;
            holds(b, huge, 5..6, 0..0)
        },
    )
}

/// Exhibit A8: the fault comes when the invalidation is over and the team is not marked yet.
fn late_fault<I: Isa>(b: &Bench<'_, I>) -> Run {
    swapping(
        b,
        |_, _, huge| {
            check(fault(b, huge, page(BLOCK / 2), Access::Write) == Outcome::Mapped, "no page")?;
            check(large(b, huge) == 0, "a page of a doomed team was mapped large")
        },
        |object, huge, _| {
            let beside = huge.stage2().lookup(b.cpu, b.m, page(0).page());
            check(!matches!(beside, Pte::Leaf(_)), "a frame that was swapped out is still mapped")?;
            check(object.stats(b.cpu, b.m).resident == 1, "more than the page in use stayed")
        },
    )
}

/// The team is complete and aligned, but this VM's host leaves are small: so is stage 2.
fn host_leaf<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        with_two(b, object, [HugePolicy::Always, HugePolicy::Never], |huge, small| {
            fill(b, huge, 0..BLOCK)?;
            for n in 0..BLOCK / 2 {
                check(fault(b, small, page(n), Access::Write) == Outcome::Mapped, "no page")?;
            }
            check(object.stats(b.cpu, b.m).complete == 1, "no team")?;
            check(large(b, small) == 0, "mapped by what the page is part of")?;
            refused(b, small, NotHuge::Policy)
        })
    })
}

fn reserved<I: Isa>(b: &Bench<'_, I>) -> Run {
    let device = b.m.frames().alloc(b.cpu, HUGE).ok_or(Stop::Skip("needs a free block of 2 MiB"))?.zero(b.m);
    let config = MemoryConfig { backing: Backing::Fixed { first: device.pfn() }, ..anon(BLOCK, HugePolicy::Always) };
    let run = b.with_config(config, |memory| {
        for n in 0..BLOCK {
            check(fault(b, memory, page(n), Access::Write) == Outcome::Mapped, "a device's page cannot be mapped")?;
        }
        refused(b, memory, NotHuge::Reserved)
    });
    b.m.frames().free(b.cpu, device.into_frame());
    run
}

fn already<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        let memory = vm(b, FIRST, shown(object, 0, BLOCK, HugePolicy::Always))?;
        let run = fill(b, &memory, 0..1).and_then(|()| {
            let seen = scan(b, &memory);
            check(seen == Scanned::Kept(NotCollapsed::NotHuge(NotHuge::AlreadyHuge)), "a team was collapsed again")?;
            check(object.stats(b.cpu, b.m).huge_mappings == 1, "one large leaf counts more than once")
        });
        memory.destroy(b.cpu, b.m);
        run
    })
}

/// The host leaf is large; the window shows it at another offset of a guest block.
fn slot<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, BLOCK, None, |object| {
        let mut config = anon::<I>(1, HugePolicy::Never);
        let window = Window {
            gfns: gfns(BLOCK + 8, BLOCK)?,
            shift: BLOCK - 8,
            prot: Prot::all(),
            backing: Backing::Shared { object: Counted::clone(object), first: 0 },
            huge: HugePolicy::Always,
        };
        config.windows.push(window).map_err(|_| Stop::Fail("no room for a window"))?;
        b.with_config(config, |memory| {
            let at = page(BLOCK + 8 + 64);
            check(fault(b, memory, at, Access::Write) == Outcome::Mapped, "no page")?;
            check(memory.stats().huge == 1, "the host leaf is not large")?;
            check(large(b, memory) == 0, "a window at another offset was mapped in one leaf")
        })
    })
}

fn shrink<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_object(b, 2 * BLOCK, None, |object| {
        with_two(b, object, [HugePolicy::Never, HugePolicy::Always], |small, huge| {
            fill(b, huge, 0..BLOCK)?;
            fill(b, small, BLOCK..BLOCK + 5)?;
            let before = b.free();
            check(object.shrink(b.cpu, b.m, u64::MAX) == BLOCK - 5, "another number of frames went")?;
            check(b.free() == before + BLOCK - 5, "the frames did not come back")?;
            let stats = object.stats(b.cpu, b.m);
            check((stats.complete, stats.broken, stats.building) == (1, 1, 0), "a complete team was picked")?;
            holds(b, small, 0..BLOCK + 5, 0..0)?;
            fill(b, small, BLOCK + 5..2 * BLOCK)?;
            holds(b, huge, 0..2 * BLOCK, 0..0)?;
            check(object.shrink(b.cpu, b.m, u64::MAX) == 0, "there was more to take")
        })
    })
}
