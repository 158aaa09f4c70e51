//! What differs between the ways to run POWER guests, so that the virtual CPU and its platform are written once.

use core::fmt;

use hv_core::addr::Pfn;
use hv_core::epoch::Cpu;
use hv_core::guest::manifest::VmConfig;
use hv_core::isa::{Isa, Shape, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::GuestMemory;
use hv_core::vcpu::exit::Exit;

use super::cpu::{Call, State};
use crate::nested_host::seat::Seat;
use crate::papr::fdt::Table;
use crate::papr::{Characteristics, Papr};
use crate::vcpu::layout::{HvGuestState, Registers};

/// An instruction set whose vCPUs are [`super::cpu::PowerVcpu`].
pub trait Power: Isa<Machine: Host, Platform = Papr, Call = Call> {
    /// How a guest left.
    type Left;
    /// A VM's entry of the partition table, in register order: second stage, and process table of the guest `papr` serves.
    fn partition(stage2: &Self::Stage2, papr: &Papr) -> [u64; 2];
    /// Has hardware go by that entry, and returns it.
    fn set_partition(m: &Self::Machine, tag: VmTag, stage2: &Self::Stage2, papr: &Papr) -> [u64; 2] {
        let entry = Self::partition(stage2, papr);
        m.set_partition(tag, entry);
        entry
    }
    /// Runs the vCPU until it leaves with something that is not answered at once.
    fn enter(run: Run<'_, Self>, vcpu: &mut State) -> Self::Left;
    /// The vCPU's way back, if it is in a guest of its guest: then its blocks are not its own.
    #[inline]
    fn inside(_: &mut State) -> Option<&mut Seat> {
        None
    }
    /// Writes what `stat` tells of a VM of this kind alone.
    fn report(_: &Papr, _: &Self::Stage2, _: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
    /// Names an exit.
    fn name(left: &Self::Left, vcpu: &State) -> Exit<Self>;
}

/// What a vCPU runs with.
pub struct Run<'a, I: Power> {
    /// The CPU.
    pub cpu: &'a Cpu,
    /// The machine.
    pub m: &'a I::Machine,
    /// The VM's tag.
    pub tag: VmTag,
    /// Its memory.
    pub memory: &'a GuestMemory<I>,
    /// Its personality.
    pub papr: &'a Papr,
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
    /// A VM is about to be built. Returns the first of the frames that its RAM is to be, in one run and all zeros, if it has to
    /// be these: a processor's real-mode offset wants it so.
    fn prepare(&self, cpu: &Cpu, tag: VmTag, config: &VmConfig) -> Option<Pfn>;
    /// The table that such a VM has.
    fn table(&self, shape: &Shape<'_>) -> Table;
    /// What is known of the processors' weaknesses, for the guests.
    fn characteristics(&self) -> Option<Characteristics>;
}
