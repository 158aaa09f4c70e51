//! Which of the machine's memory is free: RAM without what the image, firmware and the bundle occupy. Pure.

use alloc::vec::Vec;
use core::ops::Range;

use crate::addr::PAGE_SIZE;

/// Subtracts `holes` from `memory` and keeps whole pages. All in bytes.
#[must_use]
pub fn free_ranges(memory: &[Range<u64>], holes: &[Range<u64>]) -> Vec<Range<u64>> {
    let page = PAGE_SIZE as u64;
    let mut left: Vec<Range<u64>> = memory.to_vec();
    for hole in holes.iter().filter(|hole| hole.start < hole.end) {
        // A hole takes every page that it touches.
        let start = hole.start / page * page;
        let end = hole.end.checked_next_multiple_of(page).unwrap_or(u64::MAX);
        left = left.into_iter().flat_map(|r| [r.start..r.end.min(start), r.start.max(end)..r.end]).collect();
        left.retain(|r| r.start < r.end);
    }
    for r in &mut left {
        *r = r.start.checked_next_multiple_of(page).unwrap_or(u64::MAX)..r.end / page * page;
    }
    left.retain(|r| r.start < r.end);
    left
}

#[cfg(test)]
mod tests {
    use core::ops::Range;

    use super::free_ranges;

    /// Hostile trees have ranges that end before they begin.
    const fn span(start: u64, end: u64) -> Range<u64> {
        start..end
    }

    #[test]
    fn holes_split_memory_and_take_whole_pages() {
        let holes = [span(0, 0x4000), span(0x8001, 0x8002), span(0xf_f000, u64::MAX)];
        let free = free_ranges(&[span(0, 0x10_0000)], &holes);
        assert_eq!(free, [span(0x4000, 0x8000), span(0x9000, 0xf_f000)]);
    }

    #[test]
    fn hostile_trees_give_no_memory_rather_than_wrong_memory() {
        assert!(free_ranges(&[span(0, 0x1000)], &[span(0, u64::MAX)]).is_empty());
        assert!(free_ranges(&[span(0x1001, 0x1fff)], &[]).is_empty());
        let memory = [span(0x3000, 0x5000), span(0, 0x1000), span(0x9000, 0x8000)];
        let free = free_ranges(&memory, &[span(0x9000, 0x8000), span(0x3000, 0x3000)]);
        assert_eq!(free, [span(0x3000, 0x5000), span(0, 0x1000)]);
    }
}
