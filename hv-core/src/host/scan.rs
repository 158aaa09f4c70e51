//! The search for blocks to collapse: background work of CPUs between turns, one block a step.
//!
//! A step looks at a block without any lock, and takes one only for a block that is worth it. Several CPUs may scan one
//! space, each with a cursor of its own; the host lock keeps them apart where it matters.

use super::collapse::{Collapsed, NotCollapsed, collapse};
use super::{GIANT, HUGE};
use crate::addr::{Hvn, HvnRange, Order};
use crate::epoch::Cpu;
use crate::isa::Isa;
use crate::mmu::space::Space;

/// Where a scan goes on (R22).
#[derive(Clone, Copy, Debug)]
pub struct ScanCursor {
    next: Hvn,
}

impl Default for ScanCursor {
    fn default() -> Self {
        Self { next: Hvn(0) }
    }
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A block of this size is mapped with one leaf now.
    Collapsed(Order, Collapsed),
    /// The block stays as it is.
    Kept(NotCollapsed),
    /// There is no further block; the next step begins anew.
    Round,
}

/// Looks at the next block, and collapses it if that is worth it. The last block of 1 GiB tries for the whole of it.
pub(crate) fn scan<I: Isa>(cpu: &Cpu, m: &I::Machine, space: &Space<I>, cursor: &mut ScanCursor) -> Scanned {
    let regions = space.host.regions().iter();
    let Some(block) = regions.filter_map(|region| next_block(&region.hvns(), cursor.next)).next() else {
        *cursor = ScanCursor::default();
        return Scanned::Round;
    };
    cursor.next = block.end();
    let small = collapse(cpu, m, space, block.start(), HUGE);
    if block.end().is_aligned(GIANT)
        && let Ok(how) = collapse(cpu, m, space, block.start(), GIANT)
    {
        return Scanned::Collapsed(GIANT, how);
    }
    match small {
        Ok(how) => Scanned::Collapsed(HUGE, how),
        Err(why) => Scanned::Kept(why),
    }
}

/// The first block of 2 MiB that begins at `from` or later and lies in the range.
fn next_block(hvns: &HvnRange, from: Hvn) -> Option<HvnRange> {
    let at = hvns.start().max(from);
    let first = if at.is_aligned(HUGE) { at } else { at.align_down(HUGE).checked_add(HUGE.pages())? };
    HvnRange::block(first, HUGE).filter(|block| hvns.covers(block))
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::next_block;
    use crate::addr::{Hvn, HvnRange};

    #[test]
    fn r22_the_next_block_is_the_next_whole_one() {
        let range = HvnRange::new(Hvn(100), 1500).unwrap();
        let start = |from| next_block(&range, Hvn(from)).map(|block| block.start().0);
        assert_eq!(start(0), Some(512));
        assert_eq!(start(512), Some(512));
        assert_eq!(start(513), Some(1024));
        assert_eq!(start(1025), None, "the region ends inside that block");
        assert_eq!(start(u64::MAX), None);
    }
}
