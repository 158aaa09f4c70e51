//! The machine's memory: what is free becomes the frame allocator, what the loader has put into it is read.

use alloc::vec::Vec;
use core::ops::Range;

use hv_core::addr::{PAGE_SHIFT, Pfn, PfnRange};
use hv_core::machine::Board;
use hv_core::page::Frames;

use crate::ends::refuse;

/// How many bytes these are.
#[must_use]
pub fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|r| r.end.saturating_sub(r.start)).sum()
}

/// What the loader has put at `range`: the bundle.
///
/// # Safety
/// It is RAM, mapped where it is, that is given out to nobody, and nobody writes it from now on.
#[must_use]
pub unsafe fn handed(range: &Range<u64>) -> &'static [u8] {
    let start = core::ptr::with_exposed_provenance::<u8>(range.start as usize);
    // SAFETY: as promised.
    unsafe { core::slice::from_raw_parts(start, range.end.saturating_sub(range.start) as usize) }
}

/// The frame allocator over `free` (in bytes), its account taken from the start of the largest range; and that account's
/// size in bytes. Ends the run if that cannot be.
///
/// # Safety
/// The ranges are RAM, mapped where they are, that nobody uses now or later but by way of the allocator.
pub unsafe fn frames<B: Board>(free: &[Range<u64>]) -> (Frames, u64) {
    let ranges: Vec<PfnRange> = free
        .iter()
        .filter_map(|r| PfnRange::new(Pfn(r.start >> PAGE_SHIFT), (r.end - r.start) >> PAGE_SHIFT))
        .collect();
    let Some(largest) = ranges.iter().copied().max_by_key(PfnRange::pages) else {
        refuse::<B>(&"the machine has no free memory");
    };
    let bytes = (Frames::metadata_words(&ranges) * 8).next_multiple_of(1 << PAGE_SHIFT) as u64;
    let pages = bytes >> PAGE_SHIFT;
    if largest.pages() <= pages {
        refuse::<B>(&"the machine has too little memory");
    }
    let rest: Vec<PfnRange> = ranges
        .iter()
        .filter_map(|r| {
            let skip = if r.start() == largest.start() { pages } else { 0 };
            PfnRange::new(Pfn(r.start().0 + skip), r.pages() - skip)
        })
        .collect();
    // SAFETY: free RAM that only this slice will name from now on.
    let metadata = unsafe {
        let at = core::ptr::with_exposed_provenance_mut::<u64>((largest.start().0 << PAGE_SHIFT) as usize);
        at.write_bytes(0, bytes as usize / 8);
        core::slice::from_raw_parts_mut(at, bytes as usize / 8)
    };
    match Frames::new(&rest, metadata) {
        Ok(frames) => (frames, bytes),
        Err(why) => refuse::<B>(&format_args!("the machine's memory cannot be managed: {why:?}")),
    }
}
