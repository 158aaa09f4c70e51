//! Frames as bytes. Trivet's map of RAM is write-back cacheable, as guests' memory is ([`crate::stage2::format`]), and the
//! processor keeps caches and instruction fetch coherent.
#![expect(unsafe_code, reason = "reaches memory by its physical address")]

use core::arch::asm;

use hv_core::addr::{PAGE_SHIFT, PAGE_SIZE, Pfn};

/// The address of a range inside one frame.
#[inline]
pub fn within(frame: Pfn, offset: usize, len: usize) -> Option<*mut u8> {
    let end = offset.checked_add(len)?;
    let start = core::ptr::with_exposed_provenance_mut::<u8>((frame.0 as usize) << PAGE_SHIFT);
    (end <= PAGE_SIZE).then(|| start.wrapping_add(offset))
}

/// Fills whole frames with one word.
///
/// # Safety
/// `bytes`, a multiple of the page size, from `first` on are the caller's alone.
#[inline]
pub unsafe fn fill(first: Pfn, bytes: usize, word: u64) {
    let start = (first.0 << PAGE_SHIFT) as usize;
    // SAFETY: the caller's frames. The direction flag is clear, as the calling convention has it.
    unsafe {
        asm!("rep stosq", inout("rcx") bytes / 8 => _, inout("rdi") start => _, in("rax") word,
            options(nostack, preserves_flags));
    }
}

/// Copies bytes that another agent may be accessing: by the machine's own loads and stores, each byte once.
///
/// # Safety
/// Both ranges are valid memory and do not overlap.
#[inline]
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    let (words, rest) = (len / 8, len % 8);
    // SAFETY: inside both ranges. The direction flag is clear.
    unsafe {
        asm!("rep movsq", "mov rcx, {rest}", "rep movsb", rest = in(reg) rest,
            inout("rcx") words => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags));
    }
}
