//! What differs between the ways to run POWER guests, so that the virtual CPU and its platform are written once.

use hv_core::epoch::Cpu;
use hv_core::isa::{Isa, VmTag};
use hv_core::machine::Machine;

use super::cpu::Call;
use super::layout::{HvGuestState, Registers};
use crate::papr::{Characteristics, Papr};

/// An instruction set whose vCPUs are [`super::cpu::PowerVcpu`].
pub trait Power: Isa<Machine: Host, Platform = Papr, Call = Call> {
    /// What a fault on a radix table claims.
    const RADIX: Self::Claim;
    /// A VM's entry of the partition table, in register order: second stage, and process table of the guest `papr` serves.
    fn partition(stage2: &Self::Stage2, papr: &Papr) -> [u64; 2];
}

/// A machine that runs guests from the two blocks of [`super::layout`]. State outside of them that it does not switch is
/// in the registers of [`super::sprs`].
pub trait Host: Machine {
    /// Runs the guest until it leaves: returns the vector by which it left, or a negative number if it could not be entered.
    /// The vCPU is loaded on `cpu`.
    fn enter(&self, cpu: &Cpu, tag: VmTag, hv: &mut HvGuestState, registers: &mut Registers) -> i64;
    /// Brings what of the block stays on the CPU between entries onto it.
    fn load(&self, hv: &HvGuestState);
    /// Saves what [`Host::load`] brought.
    fn put(&self, hv: &mut HvGuestState);
    /// A vCPU of the VM came to a CPU other than its last: what that one may still hold of it is dropped, because the guest
    /// invalidates on the CPU that it is on only.
    fn moved(&self, tag: VmTag);
    /// Sets a VM's entry of the partition table, and has what was cached through the old one dropped.
    fn set_partition(&self, tag: VmTag, entry: [u64; 2]);
    /// What is known of the processors' weaknesses, for the guests.
    fn characteristics(&self) -> Option<Characteristics>;
}
