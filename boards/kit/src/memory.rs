//! Free memory becomes the frame allocator.

use alloc::vec::Vec;
use core::ops::Range;

use hv_core::addr::{PAGE_SHIFT, Pfn, PfnRange};
use hv_core::machine::Board;
use hv_core::page::Frames;

use crate::ends::refuse;

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
        refuse::<B>(None, &"the machine has no free memory");
    };
    let bytes = (Frames::metadata_words(&ranges) * 8).next_multiple_of(1 << PAGE_SHIFT) as u64;
    let pages = bytes >> PAGE_SHIFT;
    if largest.pages() <= pages {
        refuse::<B>(None, &"the machine has too little memory");
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
        Err(why) => refuse::<B>(None, &format_args!("the machine's memory cannot be managed: {why:?}")),
    }
}
