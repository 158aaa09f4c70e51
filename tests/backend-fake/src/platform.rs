//! The fake has no devices and no firmware.

use hv_core::isa::{Firmware, Isa, Platform, Shape};
use hv_core::vcpu::services::{Services, StartAt};

use crate::machine::FakeMachine;

/// What a VM of the fake owns beside memory and vCPUs: nothing.
#[derive(Debug)]
pub struct FakePlatform;

impl<I: Isa<Machine = FakeMachine>> Platform<I> for FakePlatform {
    const ELF_MACHINE: u16 = 0;
    const CEILING: u64 = 0;
    const TREE_ROOM: u64 = 0;
    const CODE_ROOM: u64 = 0;

    fn create(_m: &FakeMachine, _vcpus: u16) -> Option<Self> {
        Some(Self)
    }

    fn firmware(&self, _m: &FakeMachine, shape: &Shape<'_>) -> Option<Firmware> {
        let start = StartAt { entry: shape.entry, args: [0; 4], big_endian: false };
        Some(Firmware { tree: Vec::new(), code: Vec::new(), start })
    }

    fn console_input(&self) -> impl IntoIterator<Item = u16> {
        []
    }

    fn unknown_calls(&self) -> u64 {
        0
    }

    fn dispatched<S: Services>(&self, _vcpu: u16, _s: &S) {}

    fn preempted<S: Services>(&self, _vcpu: u16, _s: &S) {}
}
