//! What is measured on POWER only: a guest's calls on its hashed table; faults and calls of a guest that it has itself.

use super::{Counts, EVENTS, Scale, WARM, measure, present, time_hypercall, time_store, untouched};
use crate::machine::{Tree, fail, say, typed};
use crate::nested;

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

/// With a guest of this one. Its pages are all there, and mapped by this guest for it.
pub fn nested(tree: &Tree, counts: &mut Counts, scale: &Scale) {
    let at = (&raw mut *counts).expose_provenance() as u64;
    for n in 0..(EVENTS + WARM) as u64 {
        for page in [present(n), untouched(n)] {
            // SAFETY: pages that nothing else uses.
            unsafe { core::ptr::with_exposed_provenance_mut::<u8>(page as usize).write_volatile(1) };
        }
    }
    let hold = |what: &str| {
        if tree.is_told("watched") {
            say(format_args!("{what}"));
            while typed().is_none() {}
        }
    };
    nested::make();
    // The program itself is a guest's guest's memory too: all that it needs is there after this.
    nested::run(0, once, at);
    nested::run(0, call, at);
    hold("READY");
    nested::run(0, fault, at);
    hold("FAULTED");
    scale.report("nested-fault", counts);
    hold("CALLS");
    nested::run(0, call, at);
    hold("CALLED");
    scale.report("nested-hypercall", counts);
}

fn counts(at: u64) -> &'static mut Counts {
    // SAFETY: its owner waits until the guest that uses it has ended.
    unsafe { &mut *core::ptr::with_exposed_provenance_mut(at as usize) }
}

extern "C" fn once(at: u64) -> u64 {
    // SAFETY: pages of PRESENT, which nothing reads.
    measure(counts(at), |n| unsafe { time_store(present(n)) });
    0
}

extern "C" fn fault(at: u64) -> u64 {
    // SAFETY: memory behind everything that the linker placed.
    measure(counts(at), |n| unsafe { time_store(untouched(n)) });
    0
}

extern "C" fn call(at: u64) -> u64 {
    // SAFETY: its hypervisor, this program, answers every number with nothing.
    measure(counts(at), |_| unsafe { time_hypercall(NOTHING) });
    0
}
