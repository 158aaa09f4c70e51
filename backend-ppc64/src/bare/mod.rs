//! Trivet in hypervisor mode of a bare machine under skiboot: POWER9 and POWER10.
//!
//! What a platform with nested HV does for [`crate::nested`] is done here: [`enter`] is its `H_ENTER_NESTED`, of the same two
//! blocks; [`machine`] owns the partition table, translation caches and CPUs; [`opal`] is firmware.

pub mod linear;

#[cfg(target_arch = "powerpc64")]
pub mod enter;
#[cfg(target_arch = "powerpc64")]
pub mod machine;
#[cfg(target_arch = "powerpc64")]
pub mod opal;
#[cfg(target_arch = "powerpc64")]
mod tlb;
#[cfg(target_arch = "powerpc64")]
pub mod vectors;

#[cfg(target_arch = "powerpc64")]
mod isa {
    use hv_core::isa::Isa;

    use super::machine::Bare;
    use crate::papr::Papr;
    use crate::radix::{RadixStage2, radix_root};
    use crate::vcpu::cpu::{Call, PowerVcpu};
    use crate::vcpu::power::Power;

    /// POWER, 64 bits, in hypervisor mode.
    #[derive(Debug)]
    pub enum Ppc64Bare {}

    impl Isa for Ppc64Bare {
        const NAME: &'static str = "ppc64";
        type Machine = Bare;
        type Stage2 = RadixStage2;
        type Vcpu = PowerVcpu;
        type Platform = Papr;
        type Claim = ();
        type Call = Call;
    }

    impl Power for Ppc64Bare {
        const RADIX: () = ();

        #[inline]
        fn partition(stage2: &RadixStage2, papr: &Papr) -> [u64; 2] {
            [radix_root(stage2.root()).unwrap_or(0), papr.process_table()]
        }
    }
}

#[cfg(target_arch = "powerpc64")]
pub use isa::Ppc64Bare;
