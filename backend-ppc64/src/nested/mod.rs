//! Trivet as a nested hypervisor of a PAPR platform (interface version 1): the machine and its vCPUs.

pub mod layout;

#[cfg(target_arch = "powerpc64")]
pub mod console;
#[cfg(target_arch = "powerpc64")]
pub mod hcall;
#[cfg(target_arch = "powerpc64")]
pub mod irq;
#[cfg(target_arch = "powerpc64")]
pub mod machine;
#[cfg(target_arch = "powerpc64")]
pub mod platform;
#[cfg(target_arch = "powerpc64")]
mod ram;
#[cfg(target_arch = "powerpc64")]
pub mod rtas;
#[cfg(target_arch = "powerpc64")]
pub mod sprs;
#[cfg(target_arch = "powerpc64")]
pub mod vcpu;

#[cfg(target_arch = "powerpc64")]
mod isa {
    use hv_core::isa::Isa;

    use super::machine::Nested;
    use super::vcpu::{Call, NestedVcpu};
    use crate::papr::Papr;
    use crate::radix::RadixStage2;

    /// POWER, 64 bits, under a nested hypervisor.
    #[derive(Debug)]
    pub enum Ppc64 {}

    impl Isa for Ppc64 {
        const NAME: &'static str = "ppc64";
        type Machine = Nested;
        type Stage2 = RadixStage2;
        type Vcpu = NestedVcpu;
        type Platform = Papr;
        type Claim = ();
        type Call = Call;
    }
}

#[cfg(target_arch = "powerpc64")]
pub use isa::Ppc64;
