//! The way from a guest's exit to its next entry, for this board's instruction set.
//!
//! Everything that [`Hypervisor::run`] calls and that is generic over the instruction set is compiled with this package (see the
//! profile in the workspace's manifest): the vCPU loop, exits, faults, walks, hypercalls. What happens rarely it reaches by
//! [`hv_core::hypervisor::Rare`] and [`backend_ppc64::bare::hashed::Rare`], whose functions are compiled with the board, for size.
#![no_std]
#![forbid(unsafe_code)]

use backend_ppc64::bare::Ppc64Bare;
use hv_core::epoch::Cpu;
use hv_core::hypervisor::Hypervisor;
// Has an instance of a guest's most frequent calls, compiled for speed.
use powernv_calls as _;

/// A physical CPU's main loop.
pub fn run(hypervisor: &Hypervisor<Ppc64Bare>, cpu: &Cpu) -> ! {
    hypervisor.run(cpu)
}
