//! What of a guest's state is switched, when, and the way into it.
//!
//! - At every entry: general registers, SRR0 and SRR1, the deadline (`enter.S`).
//! - From load to put on the CPU: SPRG0 to SPRG3 and what else belongs to a partition ([`load`]), and what the nested
//!   interface does not switch either ([`crate::vcpu::sprs`]).
//! - LPIDR and LPCR when they differ from what is there: Trivet's own code runs under either, because it does not translate,
//!   and changing them is what costs most.
#![expect(unsafe_code, reason = "special-purpose registers, and the way into a guest")]

use alloc::boxed::Box;
use core::arch::asm;

use hv_core::heap::boxed;

use crate::hash::Layout;
use crate::hash::place::vrma;
use crate::vcpu::layout::{HvGuestState, Registers};
use crate::vcpu::msr::{DR, HV, IR, SRR1_CAUSE};
use crate::vcpu::sprs::{mfspr, mtspr, pvr, timebase};

core::arch::global_asm!(include_str!("enter.S"), options(raw));

unsafe extern "C" {
    fn trivet_guest_enter(hv: *mut HvGuestState, registers: *mut Registers) -> u64;
}

const _: () = {
    assert!(core::mem::offset_of!(HvGuestState, srr0) == 160);
    assert!(core::mem::offset_of!(HvGuestState, srr1) == 168);
    assert!(core::mem::offset_of!(Registers, nip) == 256);
    assert!(core::mem::offset_of!(Registers, msr) == 264);
    assert!(core::mem::offset_of!(Registers, ctr) == 280);
    assert!(core::mem::offset_of!(Registers, link) == 288);
    assert!(core::mem::offset_of!(Registers, xer) == 296);
    assert!(core::mem::offset_of!(Registers, ccr) == 304);
    assert!(core::mem::offset_of!(NoGuest, hv) == 256);
};

/// LPCR of every guest: events that end `stop`, and the hypervisor decrementer is taken.
const LPCR: u64 = 0x1_f000 | 1;
/// LPCR of every guest beside it, from ISA 3.0 on: virtualization interrupts are taken.
pub const LPCR_300: u64 = 1 << 1;
/// LPCR of radix guests beside it: they have process tables, use radix trees, and invalidate their own translations.
pub const LPCR_RADIX: u64 = LPCR_300 | 1 << 22 | 1 << 20 | 1 << 10;
/// LPCR while the hypervisor itself translates, by its own tree.
pub const OWN_LPCR: u64 = LPCR | LPCR_RADIX;
/// LPCR of guests with hashed tables beside it: all of their storage interrupts come to the hypervisor (VPM1).
pub const LPCR_HASHED: u64 = 1 << 62;

/// Enters with HSPRG0 pointing at its stack frame; outside of a guest, where only a bug can be interrupted, at this.
#[repr(C, align(16))]
struct NoGuest {
    frame: [u64; 32],
    hv: HvGuestState,
    registers: Registers,
}

/// Makes the calling CPU fit to enter guests. `partitions` is the partition table register, where there is one. Once per CPU,
/// before it enters its first; false if there is no heap.
#[must_use]
pub fn arrive(layout: Layout, partitions: u64) -> bool {
    let Ok(none) = boxed(NoGuest { frame: [0; 32], hv: HvGuestState::default(), registers: Registers::default() })
    else {
        return false;
    };
    let none = Box::leak(none);
    // Slots of `enter.S` for the two blocks.
    none.frame[25] = (&raw mut none.hv).expose_provenance() as u64;
    none.frame[26] = (&raw mut none.registers).expose_provenance() as u64;
    mtspr!(304, 3 << 62 | (&raw mut *none).expose_provenance() as u64); // HSPRG0
    mtspr!(319, 0); // LPIDR
    match layout {
        Layout::Isa207 => mtspr!(318, LPCR),
        Layout::Isa300 => {
            mtspr!(464, partitions); // PTCR
            mtspr!(318, OWN_LPCR);
        }
    }
    mtspr!(338, 0); // PCR: all of the architecture
    mtspr!(349, u64::MAX); // AMOR
    mtspr!(190, 0); // HFSCR
    match layout {
        Layout::Isa207 => super::tlb::drop_own_207(),
        Layout::Isa300 => super::tlb::drop_own(),
    }
    true
}

/// Where the guest's hashed table is, on POWER8: as the first doubleword of a partition table's entry says it.
pub fn set_table_207(table: u64) {
    mtspr!(25, table); // SDR1
}

/// Where guest real address 0 is with the guest's translation off, on POWER8 and without a virtual real mode area.
pub fn set_offset_207(base: u64) {
    mtspr!(312, base); // RMOR
}

/// The descriptor of the segment that the guest's access to `address` went by. POWER8 does not tell it: it is looked up in the
/// guest's segment buffer, which is loaded still, or is the virtual real mode area's.
fn segment(hv: &HvGuestState, address: u64, translated: u64) -> u64 {
    if Layout::of(pvr()) == Layout::Isa300 {
        return mfspr!(816); // ASDR
    }
    if translated == 0 {
        // LPCR[VRMASD]
        return vrma(hv.lpcr >> 47);
    }
    let found: u64;
    // SAFETY: looks a segment up: `slbfee. 6,5`; 0 if there is none.
    unsafe {
        asm!(".long 0x7c0007a7 | 6 << 21 | 5 << 11", in("r5") address, out("r6") found, out("cr0") _,
            options(nomem, nostack));
    }
    found
}

/// Brings what stays on the CPU between entries onto it.
pub fn load(hv: &HvGuestState) {
    mtspr!(272, hv.sprg[0]);
    mtspr!(273, hv.sprg[1]);
    mtspr!(274, hv.sprg[2]);
    mtspr!(275, hv.sprg[3]);
    mtspr!(48, hv.pidr);
    mtspr!(190, hv.hfscr);
    mtspr!(176, hv.dpdes);
    mtspr!(849, hv.vtb);
    mtspr!(896, hv.ppr);
    if mfspr!(319) != u64::from(hv.lpid) {
        mtspr!(319, hv.lpid.into());
    }
}

/// Saves what [`load`] brought.
pub fn put(hv: &mut HvGuestState) {
    hv.sprg = [mfspr!(272), mfspr!(273), mfspr!(274), mfspr!(275)];
    hv.pidr = mfspr!(48);
    hv.dpdes = mfspr!(176);
    hv.vtb = mfspr!(849);
    hv.ppr = mfspr!(896);
}

/// Adds to the block what an exit leaves in registers for a guest's own hypervisor only: the instruction that needs assistance, or
/// the facility that was not available.
pub fn explain(hv: &mut HvGuestState, vector: i64) {
    match vector {
        0xe40 => hv.heir = mfspr!(339),
        0xf80 => hv.hfscr = mfspr!(190),
        _ => {}
    }
}

/// Runs the loaded guest until it leaves, and returns the vector. What exits leave in registers is in the blocks then.
#[inline(always)]
pub fn enter(hv: &mut HvGuestState, registers: &mut Registers) -> i64 {
    let lpcr = hv.lpcr | LPCR;
    if mfspr!(318) != lpcr {
        mtspr!(318, lpcr);
    }
    let left = hv.hdec_expiry.saturating_sub(timebase());
    mtspr!(310, left.min(i32::MAX as u64)); // HDEC
    registers.msr &= !HV;
    // SAFETY: both blocks are exclusively borrowed, in real memory. What the guest changes beside them is guest memory, the
    // registers that `put` saves and those of `sprs`, which the caller accounts for.
    let vector = unsafe { trivet_guest_enter(&raw mut *hv, &raw mut *registers) };
    match vector {
        0xe00 => {
            (hv.hdar, hv.hdsisr) = (mfspr!(307), mfspr!(306));
            hv.asdr = segment(hv, hv.hdar, registers.msr & DR);
        }
        // The status of a fetch is in HSRR1.
        0xe20 => {
            hv.hdsisr = registers.msr & SRR1_CAUSE;
            hv.asdr = segment(hv, registers.nip, registers.msr & IR);
        }
        _ => {}
    }
    registers.msr &= !SRR1_CAUSE;
    vector as i64
}
