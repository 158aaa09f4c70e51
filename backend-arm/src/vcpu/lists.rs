//! The virtual CPU interface's registers (IHI 0069, 12.4): list registers moved between [`Lists`] and the hardware, and what of the
//! guest's own view of the interface is kept while its vCPU is off a CPU.
//!
//! While no vCPU is on a CPU its list registers are all zero and the interface is off; so only registers that are in use are
//! ever moved.

use aarch64_cpu::registers::{
    ICH_AP0R0_EL2, ICH_AP0R1_EL2, ICH_AP0R2_EL2, ICH_AP0R3_EL2, ICH_AP1R0_EL2, ICH_AP1R1_EL2, ICH_AP1R2_EL2,
    ICH_AP1R3_EL2, ICH_HCR_EL2, ICH_LR0_EL2, ICH_LR1_EL2, ICH_LR2_EL2, ICH_LR3_EL2, ICH_LR4_EL2, ICH_LR5_EL2,
    ICH_LR6_EL2, ICH_LR7_EL2, ICH_LR8_EL2, ICH_LR9_EL2, ICH_LR10_EL2, ICH_LR11_EL2, ICH_LR12_EL2, ICH_LR13_EL2,
    ICH_LR14_EL2, ICH_LR15_EL2, ICH_VMCR_EL2, ICH_VTR_EL2, Readable as _, Writeable as _,
};

use crate::vgic::Lists;
use crate::vgic::lists::bits;

/// ICH_HCR_EL2: the interface is on.
pub const ON: u64 = 1;
/// ICH_HCR_EL2.EOIcount.
const COUNT_SHIFT: u32 = 27;

/// How many list registers there are.
#[must_use]
pub fn how_many() -> u8 {
    (ICH_VTR_EL2.get() & 0x1f) as u8 + 1
}

macro_rules! by_number {
    ($n:expr, $lr:ident => $do:expr, $otherwise:expr) => {
        match $n {
            0 => {
                let $lr = ICH_LR0_EL2;
                $do
            }
            1 => {
                let $lr = ICH_LR1_EL2;
                $do
            }
            2 => {
                let $lr = ICH_LR2_EL2;
                $do
            }
            3 => {
                let $lr = ICH_LR3_EL2;
                $do
            }
            4 => {
                let $lr = ICH_LR4_EL2;
                $do
            }
            5 => {
                let $lr = ICH_LR5_EL2;
                $do
            }
            6 => {
                let $lr = ICH_LR6_EL2;
                $do
            }
            7 => {
                let $lr = ICH_LR7_EL2;
                $do
            }
            8 => {
                let $lr = ICH_LR8_EL2;
                $do
            }
            9 => {
                let $lr = ICH_LR9_EL2;
                $do
            }
            10 => {
                let $lr = ICH_LR10_EL2;
                $do
            }
            11 => {
                let $lr = ICH_LR11_EL2;
                $do
            }
            12 => {
                let $lr = ICH_LR12_EL2;
                $do
            }
            13 => {
                let $lr = ICH_LR13_EL2;
                $do
            }
            14 => {
                let $lr = ICH_LR14_EL2;
                $do
            }
            15 => {
                let $lr = ICH_LR15_EL2;
                $do
            }
            _ => $otherwise,
        }
    };
}

/// Copies the registers in use from the hardware, and the count of interrupts that were ended unlisted. Those that have changed in
/// [`Lists`] and are not in the hardware yet stay as they are.
#[inline]
pub fn copy_out(lists: &mut Lists) {
    for n in bits((lists.used & !lists.changed).into()) {
        let word = by_number!(n, lr => lr.get(), 0);
        if let Some(slot) = lists.lr.get_mut(n as usize) {
            *slot = word;
        }
    }
    let hcr = ICH_HCR_EL2.get();
    lists.unmatched = lists.unmatched.saturating_add((hcr >> COUNT_SHIFT) as u8);
    ICH_HCR_EL2.set(hcr & !(0x1f << COUNT_SHIFT));
}

/// Copies what has changed to the hardware, and turns the interface on with `how`. Takes effect for the guest with its entry.
#[inline]
pub fn copy_in(lists: &mut Lists, how: u64) {
    for n in bits(core::mem::take(&mut lists.changed).into()) {
        let word = lists.lr.get(n as usize).copied().unwrap_or(0);
        by_number!(n, lr => lr.set(word), ());
    }
    ICH_HCR_EL2.set(ON | how);
}

/// What the guest has set in its CPU interface, and which priorities it is handling.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interface {
    vmcr: u64,
    active: [[u64; 2]; 4],
}

impl Interface {
    /// From the CPU, whose interface is off and empty afterwards; `lists` are copied.
    pub fn save(&mut self, lists: &mut Lists) {
        copy_out(lists);
        ICH_HCR_EL2.set(0);
        // One that is free again may still stand there.
        bits((lists.used | lists.changed).into()).for_each(|n| by_number!(n, lr => lr.set(0), ()));
        // They all have to be written where the vCPU comes to.
        lists.changed = lists.used;
        self.vmcr = ICH_VMCR_EL2.get();
        match priority_registers() {
            4 => {
                self.active[3] = [ICH_AP0R3_EL2.get(), ICH_AP1R3_EL2.get()];
                self.active[2] = [ICH_AP0R2_EL2.get(), ICH_AP1R2_EL2.get()];
                self.active[1] = [ICH_AP0R1_EL2.get(), ICH_AP1R1_EL2.get()];
            }
            2 => self.active[1] = [ICH_AP0R1_EL2.get(), ICH_AP1R1_EL2.get()],
            _ => {}
        }
        self.active[0] = [ICH_AP0R0_EL2.get(), ICH_AP1R0_EL2.get()];
    }

    /// To the CPU. The list registers follow with the first [`copy_in`].
    pub fn load(&self) {
        ICH_VMCR_EL2.set(self.vmcr);
        let [a, b, c, d] = self.active;
        match priority_registers() {
            4 => {
                ICH_AP0R3_EL2.set(d[0]);
                ICH_AP1R3_EL2.set(d[1]);
                ICH_AP0R2_EL2.set(c[0]);
                ICH_AP1R2_EL2.set(c[1]);
                ICH_AP0R1_EL2.set(b[0]);
                ICH_AP1R1_EL2.set(b[1]);
            }
            2 => {
                ICH_AP0R1_EL2.set(b[0]);
                ICH_AP1R1_EL2.set(b[1]);
            }
            _ => {}
        }
        ICH_AP0R0_EL2.set(a[0]);
        ICH_AP1R0_EL2.set(a[1]);
    }
}

/// How many active priorities registers of each group there are: a bit for each preemption level (ICH_VTR_EL2.PREbits).
fn priority_registers() -> u32 {
    match ICH_VTR_EL2.get() >> 26 & 7 {
        6 => 4,
        5 => 2,
        _ => 1,
    }
}
