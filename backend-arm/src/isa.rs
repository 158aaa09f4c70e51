//! The bundle of types that hv-core is generic over.

use hv_core::isa::Isa;

use crate::machine::ArmMachine;
use crate::stage2::ArmStage2;
use crate::vcpu::cpu::ArmVcpu;
use crate::vcpu::exits::Raw;
use crate::virt::Virt;

/// Arm, 64 bits, at EL2.
#[derive(Debug)]
pub enum Arm64 {}

impl Isa for Arm64 {
    const NAME: &'static str = "arm64";
    type Machine = ArmMachine;
    type Stage2 = ArmStage2;
    type Vcpu = ArmVcpu;
    type Platform = Virt;
    type Claim = ();
    /// The exit itself: what it asks for is found out where it is carried out.
    type Call = Raw;
}
