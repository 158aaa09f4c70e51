//! Frames as bytes, and what has to be done so that a guest finds in them what Trivet wrote, and the other way round.
//!
//! Trivet's own map is write-back cacheable. Without FEAT_S2FWB a guest may reach memory behind the caches, as it does
//! before it turns its own on: what is written is cleaned to memory, and what lies in a cache is dropped before guest memory
//! is read. Instruction fetch is looked after as far as the processor needs it (DDI 0487, B2.7.4; [`Caches`]).
#![expect(unsafe_code, reason = "reaches memory by its physical address, cache maintenance")]

use core::arch::asm;

use aarch64_cpu::asm::barrier::{ISH, SY, dsb, isb};
use hv_core::addr::{PAGE_SHIFT, PAGE_SIZE, Pfn};

use crate::features::{Caches, Code, Features};

/// The address of a range inside one frame.
#[inline]
pub fn within(frame: Pfn, offset: usize, len: usize) -> Option<*mut u8> {
    let end = offset.checked_add(len)?;
    let start = core::ptr::with_exposed_provenance_mut::<u8>((frame.0 as usize) << PAGE_SHIFT);
    (end <= PAGE_SIZE).then(|| start.wrapping_add(offset))
}

/// Fills whole frames with zeros.
///
/// # Safety
/// `bytes`, a multiple of the page size, from `first` on are the caller's alone.
#[inline]
pub unsafe fn clear(first: Pfn, bytes: usize, features: &Features) {
    let start = (first.0 as usize) << PAGE_SHIFT;
    match features.zero_block {
        // Two blocks at least to a page.
        Some(block) => {
            for at in (start..start + bytes).step_by(2 * block) {
                // SAFETY: two blocks inside the caller's frames, which are normal memory.
                unsafe { asm!("dc zva, {0}", "dc zva, {1}", in(reg) at, in(reg) at + block, options(nostack)) };
            }
        }
        // SAFETY: the caller's frames.
        None => unsafe { core::ptr::with_exposed_provenance_mut::<u8>(start).write_bytes(0, bytes) },
    }
}

/// Copies bytes that another agent may be accessing: by the machine's own loads and stores, each byte once.
///
/// # Safety
/// Both ranges are valid memory and do not overlap.
#[inline(never)]
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    let aligned = (to.addr() | from.addr()).is_multiple_of(8);
    let blocks = if aligned { len / 32 } else { 0 };
    if blocks != 0 {
        // SAFETY: inside both ranges. No other register or flag is touched than those named.
        unsafe {
            asm!(
                "2: ldp {a}, {b}, [{from}], #16",
                "ldp {c}, {d}, [{from}], #16",
                "stp {a}, {b}, [{to}], #16",
                "stp {c}, {d}, [{to}], #16",
                "subs {n}, {n}, #1",
                "b.ne 2b",
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                from = inout(reg) from => _, to = inout(reg) to => _, n = inout(reg) blocks => _,
                options(nostack)
            );
        }
    }
    for n in blocks * 32..len {
        // SAFETY: inside both ranges.
        unsafe { to.add(n).write_volatile(from.add(n).read_volatile()) };
    }
}

/// Fills a frame with one word.
///
/// # Safety
/// The frame is the caller's alone.
pub unsafe fn fill(frame: Pfn, word: u64) {
    let start = core::ptr::with_exposed_provenance_mut::<u64>((frame.0 as usize) << PAGE_SHIFT);
    for n in (0..PAGE_SIZE / 8).step_by(2) {
        // SAFETY: inside the caller's frame.
        unsafe {
            start.add(n).write_volatile(word);
            start.add(n + 1).write_volatile(word);
        }
    }
}

/// A guest finds, as data and as instructions, what was written to `len` bytes from `start`.
#[inline]
pub fn publish(start: usize, len: usize, features: &Features) {
    let caches = &features.caches;
    if !features.forced_write_back {
        clean(start, len, caches, Clean::ToMemory);
    } else if caches.clean_for_code {
        clean(start, len, caches, Clean::ForCode);
    }
    if caches.code != Code::Coherent {
        invalidate_code(start, len, caches);
    }
}

/// What a guest wrote to `len` bytes from `start` is what is read next, however it wrote.
#[inline]
pub fn obtain(start: usize, len: usize, features: &Features) {
    if !features.forced_write_back {
        clean(start, len, &features.caches, Clean::ToMemory);
    }
}

/// How far data are cleaned.
#[derive(Clone, Copy)]
enum Clean {
    /// Clean and drop, to the point of coherency (DC CIVAC).
    ToMemory,
    /// Clean, to the point of unification (DC CVAU).
    ForCode,
}

fn clean(start: usize, len: usize, caches: &Caches, how: Clean) {
    let line = caches.data_line;
    for at in (start & !(line - 1)..start + len).step_by(line) {
        match how {
            // SAFETY: what is in memory and what is in a cache become the same.
            Clean::ToMemory => unsafe { asm!("dc civac, {0}", in(reg) at, options(nostack, preserves_flags)) },
            // SAFETY: as above.
            Clean::ForCode => unsafe { asm!("dc cvau, {0}", in(reg) at, options(nostack, preserves_flags)) },
        }
    }
    dsb(ISH);
}

fn invalidate_code(start: usize, len: usize, caches: &Caches) {
    // Whatever was cleaned or written is seen by the fetches that follow.
    dsb(ISH);
    if let Code::Lines(line) = caches.code {
        for at in (start & !(line - 1)..start + len).step_by(line) {
            // SAFETY: instructions are fetched again.
            unsafe { asm!("ic ivau, {0}", in(reg) at, options(nostack, preserves_flags)) };
        }
    } else {
        // SAFETY: as above.
        unsafe { asm!("ic ialluis", options(nostack, preserves_flags)) };
    }
    dsb(ISH);
    isb(SY);
}
