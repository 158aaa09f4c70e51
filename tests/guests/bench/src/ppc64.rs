//! What is measured on POWER only: a guest's calls on its hashed table.

use super::{Counts, Scale, measure, present};
use crate::machine::{Tree, fail};

core::arch::global_asm!(include_str!("ppc64.S"), options(raw));

unsafe extern "C" {
    fn time_enter_remove(entry: u64, v: u64, r: u64) -> u64;
}

/// A number that no personality gives a meaning: answered with H_FUNCTION.
pub const NOTHING: u64 = 0x3f_fffc;

/// First entry of the group that entries are put into: not among the first, which firmware may have filled.
const ENTRY: u64 = 64 * 8;
/// v: valid, some segment's page of 4 KiB. No bits that ISA 3.0 has no room for.
const V: u64 = 0x0003_4567_89ab_c000 | 1;
/// r: coherent, read and written in any state.
const R: u64 = 0x12;

/// Nothing: no radix table has calls.
pub fn more(_: &Tree, _: &mut Counts, _: &Scale) {}

/// On a hashed table: an entry of a page that is there, put and taken out again.
pub fn hashed(counts: &mut Counts, scale: &Scale) {
    let page = present(0);
    // SAFETY: reads the page, so that it is there.
    unsafe { core::ptr::with_exposed_provenance::<u8>(page as usize).read_volatile() };
    measure(counts, |n| {
        // SAFETY: this program translates nothing, so no entry that it puts is ever used.
        let ticks = unsafe { time_enter_remove(ENTRY, V + (n << 12), page | R) };
        if ticks == u64::MAX {
            fail(format_args!("an entry was refused"));
        }
        ticks
    });
    scale.report("enter-remove", counts);
}
