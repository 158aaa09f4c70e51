//! The kind of second stage that this machine has, as a source of entries' bits. An image that had the tables' code once for each
//! kind would be a sixth larger, and a machine uses one of them.
#![expect(unsafe_code, reason = "is written once, before anybody reads")]

use core::cell::UnsafeCell;

use super::format::{Bits, EptMarks, EptTrap, Npt, Source};
use crate::features::Nested;

/// This machine's kind.
#[derive(Debug)]
pub enum Found {}

struct Cell(UnsafeCell<Bits>);

// SAFETY: written by `find` alone, which nobody else's reads overlap.
unsafe impl Sync for Cell {}

static BITS: Cell = Cell(UnsafeCell::new(Bits::of::<Npt>()));

/// Says which kind it is.
///
/// # Safety
/// Called once, by the boot CPU, before there is any table and before another CPU is started.
pub unsafe fn find(kind: Nested) {
    let bits = match kind {
        Nested::EptMarks => Bits::of::<EptMarks>(),
        Nested::EptTrap => Bits::of::<EptTrap>(),
        Nested::Npt => Bits::of::<Npt>(),
    };
    // SAFETY: as promised, nobody reads yet.
    unsafe { *BITS.0.get() = bits };
}

impl Source for Found {
    #[inline(always)]
    fn bits() -> Bits {
        // SAFETY: nobody writes any more: there is a table.
        unsafe { *BITS.0.get() }
    }
}
