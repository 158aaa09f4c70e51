//! An instruction set for faults without guests: POWER's second-stage tables on the benchmark's machine. There are no
//! vCPUs and no platform, by type: nobody can make one.

use backend_ppc64::radix::RadixStage2;
use hv_core::epoch::Cpu;
use hv_core::isa::{Firmware, Isa, Platform, Shape, Vcpu, VmTag};
use hv_core::machine::Instant;
use hv_core::mmu::GuestMemory;
use hv_core::vcpu::exit::{Completion, Exit, Next};
use hv_core::vcpu::services::{Services, StartAt};

use crate::machine::BenchMachine;

/// The instruction set.
#[derive(Debug)]
pub struct Bench;

impl Isa for Bench {
    const NAME: &'static str = "bench";
    type Machine = BenchMachine;
    type Stage2 = RadixStage2;
    type Vcpu = Never;
    type Platform = Never;
    type Claim = ();
    type Call = Never;
}

/// What there is none of.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

impl Vcpu<Bench> for Never {
    type Raw = Self;

    fn create(_m: &BenchMachine, _tag: VmTag, _index: u16) -> Option<Self> {
        None
    }
    fn reset(&mut self, _at: StartAt) {
        match *self {}
    }
    fn load(&mut self, _cpu: &Cpu, _m: &BenchMachine) {
        match *self {}
    }
    fn put(&mut self, _cpu: &Cpu, _m: &BenchMachine) {
        match *self {}
    }
    fn enter(
        &mut self,
        _cpu: &Cpu,
        _m: &BenchMachine,
        _memory: &GuestMemory<Bench>,
        _p: &Self,
        _until: Instant,
    ) -> Self {
        *self
    }
    fn classify(&self, _raw: &Self) -> Exit<Bench> {
        match *self {}
    }
    fn call<S: Services>(&mut self, _call: Self, _p: &Self, _s: &S) -> Next {
        match *self {}
    }
    fn complete(&mut self, _done: Completion) {
        match *self {}
    }
    fn timer(&self) -> Option<Instant> {
        match *self {}
    }
    fn pending(&self, _p: &Self) -> bool {
        match *self {}
    }
}

impl Platform<Bench> for Never {
    const ELF_MACHINE: u16 = 0;
    const CEILING: u64 = 0;
    const TREE_ROOM: u64 = 0;
    const CODE_ROOM: u64 = 0;

    fn create(_m: &BenchMachine, _vcpus: u16) -> Option<Self> {
        None
    }
    fn firmware(&self, _m: &BenchMachine, _shape: &Shape<'_>) -> Option<Firmware> {
        match *self {}
    }
    fn unknown_calls(&self) -> u64 {
        match *self {}
    }
    fn console_input(&self) -> impl IntoIterator<Item = u16> {
        []
    }
    fn dispatched<S: Services>(&self, _vcpu: u16, _s: &S) {
        match *self {}
    }
    fn preempted<S: Services>(&self, _vcpu: u16, _s: &S) {
        match *self {}
    }
}
