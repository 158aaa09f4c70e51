//! The way from a guest's exit to its next entry, for this board's instruction set.
//!
//! Everything that [`Hypervisor::run`] calls and that is generic over the instruction set is compiled with this package,
//! for less speed than elsewhere (see the profile in the workspace's manifest): the vCPU loop, exits, faults, walks, hypercalls.
//! What happens rarely it reaches by [`hv_core::hypervisor::Rare`], whose functions are compiled with the board, for least size.
#![no_std]
#![forbid(unsafe_code)]

use backend_x86::X86;
use hv_core::epoch::Cpu;
use hv_core::hypervisor::Hypervisor;

/// A physical CPU's main loop.
pub fn run(hypervisor: &Hypervisor<X86>, cpu: &Cpu) -> ! {
    hypervisor.run(cpu)
}

/// That of one on which no guest may run.
pub fn keep_house(hypervisor: &Hypervisor<X86>, cpu: &Cpu) -> ! {
    hypervisor.keep_house(cpu)
}
