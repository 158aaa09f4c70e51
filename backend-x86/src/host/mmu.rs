//! Trivet's own translations, switched on: `start.S` brings the boot CPU up on a first map of 4 GiB, and the others on the one
//! that [`switch`] made.
#![expect(unsafe_code, reason = "changes the translations under Trivet's feet")]

use alloc::boxed::Box;
use core::arch::x86_64::__cpuid;
use core::ops::Range;

use hv_core::heap::boxed;

use super::map::{self, Largest, NoMap, Table};

/// Read by `start.S` for the CPUs that come later, which is why it is below 4 GiB, as the whole image is.
#[unsafe(no_mangle)]
static mut TRIVET_MAP: Table = Table::EMPTY;
static mut DIRECTORY: Table = Table::EMPTY;

/// Present, writable, used: everything else is said further down.
const TO_TABLE: u64 = 1 << 5 | 1 << 1 | 1;
/// CPUID leaf 8000_0001, EDX.
const HAS_GIB: u32 = 1 << 26;

/// Plans the map for this memory (as [`map::usable`] gives it) and this image, and switches to it.
///
/// # Safety
/// Once, on the boot CPU, before the others are started; `memory` is RAM, and what is not is no RAM that Trivet uses.
pub unsafe fn switch(memory: &[Range<u64>], image: &Range<u64>) -> Result<(), NoMap> {
    let largest = if __cpuid(0x8000_0001).edx & HAS_GIB != 0 { Largest::Gib } else { Largest::Mib2 };
    let (root, directory) = (&raw mut TRIVET_MAP, &raw mut DIRECTORY);
    // SAFETY: this is the only place that names them, and it is passed once.
    let (root, directory) = unsafe { (&mut *root, &mut *directory) };
    map::plan(memory, image, largest, directory, || {
        let table = Box::leak(boxed(Table::EMPTY).ok()?);
        Some(((&raw const *table).expose_provenance() as u64, table))
    })?;
    root.0[0] = (&raw const *directory).expose_provenance() as u64 | TO_TABLE;
    // SAFETY: the new map has the image, the stack in it, and every table where they were.
    unsafe {
        core::arch::asm!("mov cr3, {}", in(reg) (&raw const *root).expose_provenance(), options(nostack, preserves_flags));
    }
    Ok(())
}
