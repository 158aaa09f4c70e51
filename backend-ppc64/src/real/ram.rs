//! Frames as bytes: in real mode a frame's address is its number times the page size.
#![expect(unsafe_code, reason = "reaches memory by its real address")]

use hv_core::addr::{PAGE_SHIFT, PAGE_SIZE, Pfn};

/// Fills whole frames with zeros, a cache block at a time. All processors with nested HV have blocks of 128 bytes.
///
/// # Safety
/// `bytes`, a multiple of the page size, from `first` on are the caller's alone.
#[inline]
pub unsafe fn clear(first: Pfn, bytes: usize) {
    const BLOCK: usize = 128;
    let start = (first.0 as usize) << PAGE_SHIFT;
    for at in (start..start + bytes).step_by(4 * BLOCK) {
        // SAFETY: four blocks inside the caller's frames.
        unsafe {
            core::arch::asm!(
                "dcbz 0, {0}", "dcbz {1}, {0}", "dcbz {2}, {0}", "dcbz {3}, {0}",
                in(reg_nonzero) at, in(reg_nonzero) BLOCK, in(reg_nonzero) 2 * BLOCK, in(reg_nonzero) 3 * BLOCK,
                options(nostack)
            );
        }
    }
}

/// Fills a frame with one word.
///
/// # Safety
/// The frame is the caller's alone.
pub unsafe fn fill(frame: Pfn, word: u64) {
    let start = core::ptr::with_exposed_provenance_mut::<u64>((frame.0 as usize) << PAGE_SHIFT);
    for n in (0..PAGE_SIZE / 8).step_by(4) {
        // SAFETY: inside the caller's frame.
        unsafe {
            start.add(n).write_volatile(word);
            start.add(n + 1).write_volatile(word);
            start.add(n + 2).write_volatile(word);
            start.add(n + 3).write_volatile(word);
        }
    }
}

/// The address of a range inside one frame.
pub fn within(frame: Pfn, offset: usize, len: usize) -> Option<*mut u8> {
    let end = offset.checked_add(len)?;
    let start = core::ptr::with_exposed_provenance_mut::<u8>((frame.0 as usize) << PAGE_SHIFT);
    (end <= PAGE_SIZE).then(|| start.wrapping_add(offset))
}

/// Copies bytes that another agent may be accessing. Out of line and in assembly's stead: the compiler sees a call whose
/// memory effects it cannot reason about.
///
/// # Safety
/// Both ranges are valid real memory and do not overlap.
#[inline(never)]
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    let words = if (to.addr() | from.addr()).is_multiple_of(8) { len / 8 } else { 0 };
    for n in 0..words {
        // SAFETY: inside both ranges, aligned.
        unsafe { to.cast::<u64>().add(n).write_volatile(from.cast::<u64>().add(n).read_volatile()) };
    }
    for n in words * 8..len {
        // SAFETY: inside both ranges.
        unsafe { to.add(n).write_volatile(from.add(n).read_volatile()) };
    }
}

/// Makes instructions that were just stored visible to instruction fetch (ISA Book II 1.8).
#[inline(never)]
pub fn sync_instructions(start: *const u8, len: usize) {
    const LINE: usize = 128;
    let first = start.addr() & !(LINE - 1);
    for at in (first..start.addr() + len).step_by(LINE) {
        // SAFETY: cache management only.
        unsafe { core::arch::asm!("dcbst 0, {0}", "sync", "icbi 0, {0}", in(reg_nonzero) at, options(nostack)) };
    }
    // SAFETY: barriers.
    unsafe { core::arch::asm!("sync", "isync", options(nostack)) };
}
