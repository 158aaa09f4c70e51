//! Trivet's own translations, switched on. `start.S` brings every CPU up on a map: the boot CPU on one that knows where the
//! image and the device tree are and takes all else for devices, the others on the one that [`switch`] made.
#![expect(unsafe_code, reason = "changes the translations under Trivet's feet")]

use core::ops::Range;

use super::map::{self, NoMap, Table};

/// Blocks of 1 GiB that can be of more than one kind.
const TABLES: usize = 16;

/// Read by `start.S` for the CPUs that come later.
#[unsafe(no_mangle)]
static mut TRIVET_MAP: Table = Table::EMPTY;
static mut MORE: [Table; TABLES] = [Table::EMPTY; TABLES];

unsafe extern "C" {
    fn trivet_switch_map(root: *const Table);
}

/// Plans the map for this memory (as [`map::usable`] gives it) and this image, and switches to it.
///
/// # Safety
/// Once, on the boot CPU, before the others are started; `memory` is RAM, and what is not is no RAM that Trivet uses.
pub unsafe fn switch(memory: &[Range<u64>], image: &Range<u64>) -> Result<(), NoMap> {
    let (root, tables) = (&raw mut TRIVET_MAP, &raw mut MORE);
    // SAFETY: this is the only place that names them, and it is passed once.
    let (root, tables) = unsafe { (&mut *root, &mut *tables) };
    let at = (&raw const *tables).expose_provenance() as u64;
    map::plan(memory, image, root, tables, at)?;
    // SAFETY: the new map has the image, the stack in it, and every table where they were.
    unsafe { trivet_switch_map(root) };
    Ok(())
}
