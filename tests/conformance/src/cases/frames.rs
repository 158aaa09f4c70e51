//! The frame allocator.

use hv_core::addr::Order;
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::page::MAX_ORDER;

use super::{Case, case};
use crate::hold::Hold;
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 4] {
    [
        case!("frames-split-and-merge", "G1", split_and_merge),
        case!("frames-are-aligned-and-apart", "G1", aligned_and_apart),
        case!("frames-exhaustion-is-an-answer", "P8", exhaustion),
        case!("frames-absurd-orders-are-refused", "P8", absurd_orders),
    ]
}

/// The largest order of which a block is free.
fn largest<I: Isa>(b: &Bench<'_, I>) -> Option<Order> {
    let frames = b.m.frames();
    (0..=MAX_ORDER)
        .rev()
        .filter_map(Order::new)
        .find(|o| frames.alloc(b.cpu, *o).map(|f| frames.free(b.cpu, f)).is_some())
}

fn split_and_merge<I: Isa>(b: &Bench<'_, I>) -> Run {
    let frames = b.m.frames();
    let before = largest(b).ok_or(Stop::Fail("nothing is free"))?;
    let hold = Hold::everything(b.cpu, frames);
    drop(hold);
    let pages = [(); 8].map(|()| frames.alloc(b.cpu, Order::PAGE));
    let all = pages.iter().all(Option::is_some);
    // Back in another order than they came.
    let (mut even, mut odd): (heapless::Vec<_, 4>, heapless::Vec<_, 4>) = Default::default();
    for (n, page) in pages.into_iter().flatten().enumerate() {
        let pushed = if n % 2 == 0 { even.push(page) } else { odd.push(page) };
        pushed.unwrap_or_else(|page| frames.free(b.cpu, page));
    }
    for page in odd.into_iter().chain(even) {
        frames.free(b.cpu, page);
    }
    check(all, "a page could not be split off")?;
    check(largest(b) == Some(before), "halves did not merge")
}

fn aligned_and_apart<I: Isa>(b: &Bench<'_, I>) -> Run {
    let frames = b.m.frames();
    let orders = [3, 0, 1, 0, 2, 0];
    let blocks = orders.map(|k| frames.alloc(b.cpu, Order::new(k).unwrap_or(Order::PAGE)));
    let mut fine = true;
    for (n, block) in blocks.iter().enumerate() {
        let Some(block) = block else { continue };
        let (at, end) = (block.pfn().0, block.pfn().0 + block.order().pages());
        fine &= block.pfn().is_aligned(block.order());
        for other in blocks.iter().skip(n + 1).flatten() {
            fine &= other.pfn().0 >= end || other.pfn().0 + other.order().pages() <= at;
        }
    }
    for block in blocks.into_iter().flatten() {
        frames.free(b.cpu, block);
    }
    check(fine, "a block is misaligned or overlaps another")
}

fn exhaustion<I: Isa>(b: &Bench<'_, I>) -> Run {
    let frames = b.m.frames();
    let before = frames.counts();
    let hold = Hold::everything(b.cpu, frames);
    check(hold.nothing_left(), "free frames that no order of allocation gives out")?;
    check(frames.alloc(b.cpu, Order::PAGE).is_none(), "a frame out of nothing")?;
    drop(hold);
    check(frames.counts() == before, "frames given back are not counted")
}

fn absurd_orders<I: Isa>(b: &Bench<'_, I>) -> Run {
    for k in MAX_ORDER + 1..=Order::MAX.get() {
        let refused =
            Order::new(k).and_then(|o| b.m.frames().alloc(b.cpu, o)).map(|f| b.m.frames().free(b.cpu, f)).is_none();
        check(refused, "a block larger than any")?;
    }
    Ok(())
}
