//! First touches that bring a whole block.

use hv_core::host::{Backing, HUGE, HugePolicy};
use hv_core::isa::{Isa, Stage2};
use hv_core::machine::Machine;
use hv_core::mmu::{MemoryConfig, Outcome, Window};
use hv_core::radix::format::{Prot, Pte};
use hv_core::vcpu::exit::Access;

use super::{Case, case, fault, gfns, page};
use crate::hold::Hold;
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 7] {
    [
        case!("huge-first-touch-brings-a-block", "R11", first_touch),
        case!("huge-policy-advise-asks-for-advice", "R11", advise),
        case!("huge-policy-never", "R11", never),
        case!("huge-blocks-lie-in-their-region-whole", "R11", region_bounds),
        case!("huge-without-a-block-falls-back-to-pages", "P8", fall_back),
        case!("huge-where-pages-are-already-stays-small", "R10", table_in_the_way),
        case!("huge-frames-of-others-are-never-huge", "R24", fixed),
    ]
}

/// Pages of a huge block.
pub(super) const BLOCK: u64 = HUGE.pages();

/// Anonymous memory of so many pages, under this policy.
pub(super) fn anon<I: Isa>(pages: u64, huge: HugePolicy) -> MemoryConfig<I> {
    MemoryConfig { huge, ..MemoryConfig::from(pages << 12) }
}

fn first_touch<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(2 * BLOCK, HugePolicy::Always), |memory| {
        let before = b.free() + memory.stats().tables;
        check(fault(b, memory, page(BLOCK + 5), Access::Write) == Outcome::Mapped, "a fault on RAM was not answered")?;
        let stats = memory.stats();
        check((stats.resident, stats.huge) == (BLOCK, 1), "a first touch did not bring a whole block")?;
        let Pte::Leaf(leaf) = memory.stage2().lookup(b.cpu, b.m, page(BLOCK + 5).page()) else {
            return check(false, "an answered fault left no translation");
        };
        check(leaf.prot == Prot::all(), "RAM is not readable, writable and executable")?;
        let mut bytes = [0xff; 8];
        for n in [0, 1, BLOCK / 2, BLOCK - 1] {
            let read = memory.read(b.cpu, b.m, page(BLOCK + n), &mut bytes).is_ok();
            check(read && bytes == [0; 8], "a new block is not zero")?;
        }
        check(memory.write(b.cpu, b.m, page(BLOCK + 7), &[7; 8]).is_ok(), "RAM cannot be written")?;
        check(memory.stats().resident == BLOCK, "a page inside a block cost another frame")?;
        check(b.free() + memory.stats().tables + BLOCK == before, "the accounts differ from the allocator's")
    })
}

fn advise<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(3 * BLOCK, HugePolicy::Advise), |memory| {
        check(memory.write(b.cpu, b.m, page(5), &[1; 8]).is_ok(), "RAM cannot be written")?;
        check(memory.stats().huge == 0 && memory.stats().resident == 1, "a block that nobody advised")?;
        memory.advise(b.cpu, b.m, gfns(BLOCK + 9, 1)?);
        check(memory.write(b.cpu, b.m, page(BLOCK), &[1; 8]).is_ok(), "RAM cannot be written")?;
        check(memory.stats().huge == 1, "advice was not followed")?;
        check(memory.write(b.cpu, b.m, page(2 * BLOCK), &[1; 8]).is_ok(), "RAM cannot be written")?;
        check(memory.stats().huge == 1, "advice for one block was followed in the next")
    })
}

fn never<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(BLOCK, HugePolicy::Never), |memory| {
        memory.advise(b.cpu, b.m, gfns(0, BLOCK)?);
        check(memory.write(b.cpu, b.m, page(5), &[1; 8]).is_ok(), "RAM cannot be written")?;
        check(memory.stats().huge == 0 && memory.stats().resident == 1, "a block where there are to be none")
    })
}

fn region_bounds<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(2 * BLOCK - 1, HugePolicy::Always), |memory| {
        check(memory.write(b.cpu, b.m, page(BLOCK + 1), &[1; 8]).is_ok(), "RAM cannot be written")?;
        check(memory.stats().resident == 1, "a block reaches beyond its region")?;
        check(memory.write(b.cpu, b.m, page(1), &[1; 8]).is_ok(), "RAM cannot be written")?;
        check(memory.stats().huge == 1, "the block that fits is not huge")
    })
}

fn fall_back<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(BLOCK, HugePolicy::Always), |memory| {
        let hold = Hold::all_but(b.cpu, b.m.frames(), 16);
        let outcome = fault(b, memory, page(3), Access::Write);
        let stats = memory.stats();
        drop(hold);
        check(outcome == Outcome::Mapped, "without a block there is no page either")?;
        check((stats.resident, stats.huge) == (1, 0), "the wrong thing is resident")
    })
}

fn table_in_the_way<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_config(anon(BLOCK, HugePolicy::Advise), |memory| {
        check(memory.write(b.cpu, b.m, page(3), &[3; 8]).is_ok(), "RAM cannot be written")?;
        memory.advise(b.cpu, b.m, gfns(0, BLOCK)?);
        check(memory.write(b.cpu, b.m, page(4), &[4; 8]).is_ok(), "RAM cannot be written")?;
        check((memory.stats().resident, memory.stats().huge) == (2, 0), "a first touch replaced a table")?;
        let mut bytes = [0; 8];
        let read = memory.read(b.cpu, b.m, page(3), &mut bytes).is_ok();
        check(read && bytes == [3; 8], "what was there is gone")
    })
}

/// Frames that the allocator does not own, made by holding on to a block of them.
fn fixed<I: Isa>(b: &Bench<'_, I>) -> Run {
    let device = b.m.frames().alloc(b.cpu, HUGE).ok_or(Stop::Skip("needs a free block of 2 MiB"))?;
    // Guest memory on this machine has to have been zeroed once.
    let device = device.zero(b.m);
    let first = device.pfn();
    let run = (|| {
        let mut config = anon::<I>(BLOCK, HugePolicy::Always);
        let window = Window {
            gfns: gfns(2 * BLOCK, BLOCK)?,
            shift: 0,
            prot: Prot::all(),
            backing: Backing::Fixed { first },
            huge: HugePolicy::Always,
        };
        config.windows.push(window).map_err(|_| Stop::Fail("no room for a window"))?;
        b.with_config(config, |memory| {
            let at = page(2 * BLOCK + 3);
            check(fault(b, memory, at, Access::Write) == Outcome::Mapped, "a device's page cannot be mapped")?;
            let Pte::Leaf(leaf) = memory.stage2().lookup(b.cpu, b.m, at.page()) else {
                return check(false, "an answered fault left no translation");
            };
            check(leaf.pfn.since(first) == Some(3), "a device's page is another frame, or mapped in a block")?;
            check(memory.stats().resident == 0, "a device's pages count as the VM's")?;
            check(memory.write(b.cpu, b.m, at, &[9; 8]).is_ok(), "a device's page cannot be written")?;
            memory.discard(b.cpu, b.m, gfns(2 * BLOCK, BLOCK)?);
            let mut bytes = [0; 8];
            let read = memory.read(b.cpu, b.m, at, &mut bytes).is_ok();
            check(read && bytes == [9; 8], "a device's page was given away")
        })
    })();
    let alone = !b.m.frames().is_free(first);
    b.m.frames().free(b.cpu, device.into_frame());
    run.and(check(alone, "a device's frames were freed with the VM"))
}
