//! What a vCPU may use of a hypervisor, where there is none: memory and the clock.
//!
//! Some ports have exits of their own that end as calls, say to list interrupts with the means to wake who waits for one.
//! They are carried out with this; a probe's own calls are not carried out at all.

use hv_core::addr::Gpa;
use hv_core::epoch::Cpu;
use hv_core::isa::Isa;
use hv_core::machine::{Instant, Machine};
use hv_core::mmu::GuestMemory;
use hv_core::vcpu::services::{MemError, Services, StartAt, StartError, VcpuState};

use crate::guest::VCPUS;

/// For a vCPU of a VM with this memory, on this CPU.
pub(crate) struct Alone<'a, I: Isa> {
    pub memory: &'a GuestMemory<I>,
    pub cpu: &'a Cpu,
    pub m: &'a I::Machine,
}

impl<I: Isa> Services for Alone<'_, I> {
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemError> {
        self.memory.read(self.cpu, self.m, at, into)
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), MemError> {
        self.memory.write(self.cpu, self.m, at, from)
    }

    fn keep(&self, _vcpu: u16, _at: Option<Gpa>) {}

    fn console_write(&self, _bytes: &[u8]) {}

    fn console_read(&self, _into: &mut [u8]) -> usize {
        0
    }

    fn now(&self) -> Instant {
        self.m.now()
    }

    fn ticks_per_second(&self) -> u64 {
        self.m.ticks_per_second()
    }

    fn wall_clock(&self) -> u64 {
        self.m.wall_clock()
    }

    fn random(&self) -> Option<u64> {
        self.m.random()
    }

    fn vcpus(&self) -> u16 {
        VCPUS as u16
    }

    /// Cases run them by hand.
    fn vcpu_state(&self, vcpu: u16) -> Option<VcpuState> {
        (usize::from(vcpu) < VCPUS).then_some(VcpuState::Started)
    }

    fn start_vcpu(&self, vcpu: u16, _at: StartAt) -> Result<(), StartError> {
        Err(if usize::from(vcpu) < VCPUS { StartError::NotStopped } else { StartError::NoSuchVcpu })
    }

    /// Nobody sleeps.
    fn wake(&self, _vcpu: u16) {}

    fn last_words(&self, _text: &[u8]) {}
}
