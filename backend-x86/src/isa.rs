//! The bundle of types that hv-core is generic over.

use hv_core::isa::Isa;

use crate::exit::Call;
use crate::guest::pc::Pc;
use crate::machine::X86Machine;
use crate::stage2::X86Stage2;
use crate::vcpu::cpu::X86Vcpu;

/// x86, 64 bits.
#[derive(Debug)]
pub enum X86 {}

impl Isa for X86 {
    const NAME: &'static str = "amd64";
    type Machine = X86Machine;
    type Stage2 = X86Stage2;
    type Vcpu = X86Vcpu;
    type Platform = Pc;
    type Claim = ();
    type Call = Call;
}
