//! The registers of EL1 and EL0 that exits leave loaded: moved when a vCPU comes to a CPU and when it leaves it.
//!
//! EL2 uses none of them (it runs without the host extensions, and its stack pointer is its own), so they hold the guest's
//! values all along a turn. DDI 0487, D19.2 and D19.8, for every feature that `idregs` shows; what is denied there is trapped
//! and not here.

#[cfg(target_arch = "aarch64")]
use aarch64_cpu::registers::{
    AFSR0_EL1, AFSR1_EL1, AMAIR_EL1, CNTKCTL_EL1, CONTEXTIDR_EL1, CPACR_EL1, CSSELR_EL1, ELR_EL1, ESR_EL1, FAR_EL1,
    MAIR_EL1, PAR_EL1, Readable, SCTLR_EL1, SP_EL0, SP_EL1, SPSR_EL1, TCR_EL1, TPIDR_EL0, TPIDR_EL1, TPIDRRO_EL0,
    TTBR0_EL1, TTBR1_EL1, VBAR_EL1, Writeable,
};

#[cfg(target_arch = "aarch64")]
use super::registers::{
    APDAKEYHI_EL1, APDAKEYLO_EL1, APDBKEYHI_EL1, APDBKEYLO_EL1, APGAKEYHI_EL1, APGAKEYLO_EL1, APIAKEYHI_EL1,
    APIAKEYLO_EL1, APIBKEYHI_EL1, APIBKEYLO_EL1,
};

macro_rules! bank {
    ($(#[$doc:meta])* $bank:ident { $($field:ident = $register:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each field has its register's name")]
        pub struct $bank {
            $(pub $field: u64,)*
        }

        #[cfg(target_arch = "aarch64")]
        impl $bank {
            /// From the CPU.
            pub fn save(&mut self) {
                $(self.$field = $register.get();)*
            }

            /// To the CPU. Takes effect for the guest with the exception return that enters it.
            pub fn load(&self) {
                $($register.set(self.$field);)*
            }
        }
    };
}

bank!(
    /// What every processor has.
    El1 {
        sctlr = SCTLR_EL1,
        cpacr = CPACR_EL1,
        ttbr0 = TTBR0_EL1,
        ttbr1 = TTBR1_EL1,
        tcr = TCR_EL1,
        mair = MAIR_EL1,
        amair = AMAIR_EL1,
        vbar = VBAR_EL1,
        contextidr = CONTEXTIDR_EL1,
        elr = ELR_EL1,
        spsr = SPSR_EL1,
        esr = ESR_EL1,
        far = FAR_EL1,
        afsr0 = AFSR0_EL1,
        afsr1 = AFSR1_EL1,
        par = PAR_EL1,
        csselr = CSSELR_EL1,
        cntkctl = CNTKCTL_EL1,
        tpidr_el1 = TPIDR_EL1,
        tpidr_el0 = TPIDR_EL0,
        tpidrro_el0 = TPIDRRO_EL0,
        sp_el1 = SP_EL1,
        sp_el0 = SP_EL0,
    }
);

bank!(
    /// Keys of pointer authentication (FEAT_PAuth).
    Keys {
        ia_low = APIAKEYLO_EL1,
        ia_high = APIAKEYHI_EL1,
        ib_low = APIBKEYLO_EL1,
        ib_high = APIBKEYHI_EL1,
        da_low = APDAKEYLO_EL1,
        da_high = APDAKEYHI_EL1,
        db_low = APDBKEYLO_EL1,
        db_high = APDBKEYHI_EL1,
        ga_low = APGAKEYLO_EL1,
        ga_high = APGAKEYHI_EL1,
    }
);

impl El1 {
    /// As after a reset: translation and caches off, little-endian, the bits that are RES1 in ARMv8.0 (DDI 0487, D19.2
    /// SCTLR_EL1); what the architecture leaves UNKNOWN is zero.
    pub const RESET: Self = Self {
        sctlr: 0x30d0_0800,
        cpacr: 0,
        ttbr0: 0,
        ttbr1: 0,
        tcr: 0,
        mair: 0,
        amair: 0,
        vbar: 0,
        contextidr: 0,
        elr: 0,
        spsr: 0,
        esr: 0,
        far: 0,
        afsr0: 0,
        afsr1: 0,
        par: 0,
        csselr: 0,
        cntkctl: 0,
        tpidr_el1: 0,
        tpidr_el0: 0,
        tpidrro_el0: 0,
        sp_el1: 0,
        sp_el0: 0,
    };
}
