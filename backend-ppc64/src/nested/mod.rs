//! Trivet as a nested hypervisor of a PAPR platform (interface version 1): the machine, and the ways to ask the platform.
#![cfg(target_arch = "powerpc64")]

pub mod console;
pub mod hcall;
pub mod irq;
pub mod machine;
pub mod rtas;

use hv_core::isa::Isa;
use hv_core::vcpu::exit::Exit;

use crate::papr::Papr;
use crate::radix::{RadixStage2, radix_root};
use crate::vcpu::cpu::{Call, PowerVcpu, State};
use crate::vcpu::power::{Host, Power, Run};
use machine::Nested;

/// POWER, 64 bits, under a nested hypervisor.
#[derive(Debug)]
pub enum Ppc64 {}

impl Isa for Ppc64 {
    const NAME: &'static str = "ppc64";
    type Machine = Nested;
    type Stage2 = RadixStage2;
    type Vcpu = PowerVcpu;
    type Platform = Papr;
    type Claim = ();
    type Call = Call;
}

impl Power for Ppc64 {
    /// The platform's status: the vector, or an error.
    type Left = i64;

    #[inline]
    fn partition(stage2: &RadixStage2, papr: &Papr) -> [u64; 2] {
        [radix_root(stage2.root()).unwrap_or(0), papr.process_table()]
    }

    #[inline]
    fn enter(run: Run<'_, Self>, vcpu: &mut State) -> i64 {
        run.m.enter(run.cpu, run.tag, &mut vcpu.hv, &mut vcpu.registers)
    }

    #[inline]
    fn name(left: &i64, vcpu: &State) -> Exit<Self> {
        vcpu.name(*left, ())
    }
}
