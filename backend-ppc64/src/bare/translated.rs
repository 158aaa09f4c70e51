//! The hypervisor with translation on, by its own tree ([`super::linear`]): where a guest's deferred calls on its hashed table
//! are made ([`super::hashed`]). Everything else runs in real mode.
//!
//! All of the image, its stacks and its heap have real addresses, and keep them: with MSR\[HV\] the lowest quadrant of effective
//! addresses is that of the process in PIDR, in partition 0 (Power ISA v3.0B, Book III 5.7.5.1). While that is process 0 the
//! tree maps it too, each address to itself. So nothing is to be jumped to, and no pointer changes its meaning.
//!
//! Interrupts of the hypervisor's own, which are bugs, are taken with translation off: LPCR\[AIL\] is 0 here.
#![expect(unsafe_code, reason = "changes the machine state register")]

use core::arch::asm;

use super::enter::OWN_LPCR;
use crate::hash::Layout;
use crate::vcpu::hashed::Hashed;
use crate::vcpu::msr::{DR, IR};
use crate::vcpu::sprs::{machine_state, mfspr, mtspr, partition, pvr, set_partition};

/// Instruction and data translation.
const BOTH: u64 = IR | DR;

/// Does `work` with translation on. A guest with a hashed table, whose segments these are, is loaded on the calling CPU before
/// and after, and not meanwhile. On POWER8, which has no trees, translation stays off. `None`, and nothing is done, on a CPU that
/// does not turn translation on; a bug.
pub fn translated<T>(segments: &mut Hashed, work: impl FnOnce() -> T) -> Option<T> {
    if Layout::of(pvr()) == Layout::Isa207 {
        return Some(work());
    }
    // Segments of a guest are nothing that a CPU with a tree should find.
    segments.save();
    Hashed::clear();
    let (lpcr, guest, process) = (mfspr!(318), partition(), mfspr!(48));
    set_partition(0);
    mtspr!(48, 0); // PIDR
    mtspr!(318, OWN_LPCR);
    let real = machine_state();
    set_machine_state(real | BOTH);
    let done = (machine_state() & BOTH == BOTH).then(work);
    set_machine_state(real);
    mtspr!(318, lpcr);
    set_partition(guest);
    mtspr!(48, process);
    segments.load();
    done
}

/// Changes the machine state register, and what translates from the next instruction on.
fn set_machine_state(state: u64) {
    // SAFETY: translation by the hypervisor's tree, and none, lead to the same memory. Nothing is moved across this: it is taken
    // to access all memory.
    unsafe { asm!("isync", "mtmsrd {0}", "isync", in(reg) state, options(nostack)) };
}
