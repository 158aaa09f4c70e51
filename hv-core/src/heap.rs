//! The small heap, which may be empty when something is asked of it (P8).
//!
//! Whatever a running machine asks for is asked for here or by `try_reserve`, and whoever is refused says so: a VM does not
//! start, an object or a cache is not made, a flush reaches less far, a CPU goes without a cache of frames. Who is refused
//! gets back what it brought, so nothing is lost: `tests/properties` refuses every such request, one by one.
//!
//! What is asked for before any guest runs, by the configuration and not by a guest, need not be told no: the bundle's
//! configuration, consoles, one [`crate::mmu::ready::Readiness`] a VM. Where that has no room the boot ends with a panic that says so.

use alloc::vec::Vec;

pub use counted::{Counted, boxed};

/// A list of `count` things that `make` makes; `None` if there is no heap for it, or if one of them could not be made.
pub fn list<T>(count: usize, make: impl FnMut(usize) -> Option<T>) -> Option<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).ok()?;
    for item in (0..count).map(make) {
        list.push(item?);
    }
    Some(list)
}
