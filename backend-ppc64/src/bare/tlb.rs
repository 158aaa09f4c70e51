//! Translation caches (Power ISA v3.0B, Book III 5.10.1).
#![expect(unsafe_code, reason = "invalidation instructions")]

use core::arch::asm;

use hv_core::isa::VmTag;

use crate::hash::Gone;

/// RB: all translations of one partition (IS = 2).
const PARTITION: u64 = 2 << 10;
/// RB: all translations (IS = 3).
const ALL: u64 = 3 << 10;

/// `tlbie 5,6,RIC,PRS,R`; R is 1, for radix translation, unless given.
macro_rules! tlbie {
    ($opcode:literal, $ric:literal, $prs:literal, $rb:expr, $rs:expr) => {
        tlbie!($opcode, $ric, $prs, 1, $rb, $rs)
    };
    ($opcode:literal, $ric:literal, $prs:literal, $r:literal, $rb:expr, $rs:expr) => {
        // SAFETY: drops cached translations of guests, of which nothing relies on being cached.
        unsafe {
            asm!(
                concat!(".long ", $opcode, " | 6 << 21 | ", $ric, " << 18 | ", $prs, " << 17 | ", $r, " << 16 | 5 << 11"),
                in("r5") $rb, in("r6") $rs, options(nostack)
            );
        }
    };
}

/// Has every CPU drop everything cached for a radix partition, table entries included, and waits until it has. In an emulator
/// with a thread for each CPU a CPU inside the guest may be later ([`crate::inside`]).
pub fn drop_partition(tag: VmTag) {
    let lpid = u64::from(tag.0.get());
    // SAFETY: barriers.
    unsafe { asm!("ptesync", options(nostack)) };
    tlbie!("0x7c000264", 2, 0, PARTITION, lpid);
    tlbie!("0x7c000264", 2, 1, PARTITION, lpid);
    // SAFETY: barriers.
    unsafe { asm!("eieio", "tlbsync", "ptesync", options(nostack)) };
}

/// Has every CPU drop the translations of a partition whose table is a hashed one, and waits until accesses by them are over.
pub fn drop_hashed(tag: VmTag) {
    let lpid = u64::from(tag.0.get());
    // SAFETY: barriers.
    unsafe { asm!("ptesync", options(nostack)) };
    tlbie!("0x7c000264", 2, 0, 0, PARTITION, lpid);
    // SAFETY: barriers.
    unsafe { asm!("eieio", "tlbsync", "ptesync", options(nostack)) };
}

/// Has every CPU drop these translations of a partition whose table is a hashed one, and waits until accesses by them are over.
#[inline(always)]
pub fn drop_entries(tag: VmTag, entries: &[Gone]) {
    let lpid = u64::from(tag.0.get());
    // SAFETY: barriers.
    unsafe { asm!("ptesync", options(nostack)) };
    for entry in entries {
        if let Some(operand) = entry.tlbie_operand() {
            tlbie!("0x7c000264", 0, 0, 0, operand, lpid);
        }
    }
    // SAFETY: barriers.
    unsafe { asm!("eieio", "tlbsync", "ptesync", options(nostack)) };
}

/// Has the calling CPU drop everything that it holds, on POWER8: of ISA 2.07's form, in 512 sets.
pub fn drop_own_207() {
    const SETS: u64 = 512;
    // SAFETY: barriers.
    unsafe { asm!("ptesync", options(nostack)) };
    for set in 0..SETS {
        // SAFETY: drops cached translations of guests, of which nothing relies on being cached: `tlbiel 5`.
        unsafe { asm!(".long 0x7c000224 | 5 << 11", in("r5") ALL | set << 12, options(nostack)) };
    }
    // SAFETY: barriers. What is derived of the translations has gone with them.
    unsafe { asm!("ptesync", "isync", options(nostack)) };
}

/// Has the calling CPU drop everything that it holds, before it enters its first guest. What a set of its cache is called is
/// the processor's: none has more than 128.
pub fn drop_own() {
    const SETS: u64 = 128;
    // SAFETY: barriers.
    unsafe { asm!("ptesync", options(nostack)) };
    tlbie!("0x7c000224", 2, 0, ALL, 0_u64);
    tlbie!("0x7c000224", 2, 1, ALL, 0_u64);
    for set in 1..SETS {
        tlbie!("0x7c000224", 0, 0, ALL | set << 12, 0_u64);
    }
    // SAFETY: barriers, and the effective-to-real cache.
    unsafe { asm!("ptesync", ".long 0x7c0003e4 | 7 << 21", "isync", options(nostack)) };
}
