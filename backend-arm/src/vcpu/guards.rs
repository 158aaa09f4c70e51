//! What confines a guest: the control registers of EL2, bit by bit, each with its reason. Pure values; `cpu` writes them when a
//! vCPU comes to a CPU.
//!
//! Sources: DDI 0487, D19.2 (HCR_EL2, CPTR_EL2, HSTR_EL2, HCRX_EL2), D19.3 (MDCR_EL2), D19.12 (CNTHCTL_EL2). E2H is 0 throughout.
//! A bit that belongs to a feature which the processor lacks is RES0, and is not set (`Extras`).

/// HCR_EL2 of every guest.
pub const HCR: u64 = HCR_VM
    | HCR_SWIO
    | HCR_FMO
    | HCR_IMO
    | HCR_AMO
    | HCR_FB
    | HCR_BSU_INNER
    | HCR_TWI
    | HCR_TWE
    | HCR_TID3
    | HCR_TSC
    | HCR_TIDCP
    | HCR_TACR
    | HCR_RW;

/// The second stage is on.
const HCR_VM: u64 = 1 << 0;
/// Invalidation by set and way cleans as well: without it a guest could throw away what another VM's stores have left in the
/// cache. With it the instructions are harmless, so they are not trapped (TSW stays 0).
const HCR_SWIO: u64 = 1 << 1;
/// Physical FIQs are Trivet's, and the virtual CPU interface has the guest's.
const HCR_FMO: u64 = 1 << 3;
/// The same for IRQs. ICC_* of EL1 go to the virtual interface with these two; the SGI registers are trapped by them.
const HCR_IMO: u64 = 1 << 4;
/// Physical SErrors are Trivet's.
const HCR_AMO: u64 = 1 << 5;
/// A guest's maintenance of TLBs and instruction caches is broadcast: its vCPU may have run on another CPU before.
const HCR_FB: u64 = 1 << 9;
/// Its barriers reach the inner shareable domain, for the same reason.
const HCR_BSU_INNER: u64 = 1 << 10;
/// WFI gives the CPU up.
const HCR_TWI: u64 = 1 << 13;
/// WFE gives way to others: a lock's holder may be waiting for this CPU.
const HCR_TWE: u64 = 1 << 14;
/// Identification registers show what the virtual processor has (`idregs`).
const HCR_TID3: u64 = 1 << 18;
/// SMC is one of the guest's conduits to PSCI; it never reaches firmware.
const HCR_TSC: u64 = 1 << 19;
/// Registers and instructions of the implementation's own are not for guests.
const HCR_TIDCP: u64 = 1 << 20;
/// ACTLR_EL1 may change what the processor does behind EL2's back.
const HCR_TACR: u64 = 1 << 21;
/// EL1 is AArch64.
const HCR_RW: u64 = 1 << 31;
/// LORegions, which `idregs` hides (FEAT_LOR).
const HCR_TLOR: u64 = 1 << 35;
/// Error record registers, which `idregs` hides (FEAT_RAS).
const HCR_TERR: u64 = 1 << 36;
/// Keys of pointer authentication are the guest's to set: they are switched with the vCPU (FEAT_PAuth).
const HCR_APK: u64 = 1 << 40;
/// And its instructions are not trapped.
const HCR_API: u64 = 1 << 41;
// What stays 0, beside what is named above:
//   PTW     guests may keep their tables where they like: in Trivet's second stage all memory is Normal, devices are not mapped.
//   VF VI VSE   the list registers deliver interrupts; no virtual SError is sent.
//   DC TGE E2H NV*  other ways to use EL2.
//   TSW TPCP TPU TTLB TOCU TICAB  maintenance reaches the guest's own lines and translations (VMID) only.
//   TVM TRVM    the guest's first stage is its own.
//   TDZ         DC ZVA writes through the second stage like any store.
//   TID0 TID1 TID2 TID4  group 0 is AArch32's; group 1 (REVIDR, AIDR) and the cache geometry are told as they are.
//   HCD         HVC is the other conduit.
//   TEA     external aborts of its own accesses go to the guest.
//   FIEN ATA DCT TID5 EnSCXT TWEDEn AMVOFFEN  features that `idregs` hides; their registers trap.

/// What a processor has that decides about bits here and registers to be switched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Pointer authentication (FEAT_PAuth, any algorithm).
    pub pauth: bool,
    /// Error records (FEAT_RAS).
    pub ras: bool,
    /// LORegions (FEAT_LOR).
    pub lor: bool,
    /// HCRX_EL2 (FEAT_HCX).
    pub hcx: bool,
    /// Statistical profiling (FEAT_SPE).
    pub spe: bool,
    /// A trace unit with its own filter controls (FEAT_TRF).
    pub trf: bool,
    /// The activity monitors (FEAT_AMU).
    pub amu: bool,
    /// Scalable vectors (FEAT_SVE).
    pub sve: bool,
    /// The matrix extension (FEAT_SME).
    pub sme: bool,
    /// Performance counters (FEAT_PMUv3).
    pub pmu: bool,
    /// Fine-grained traps (FEAT_FGT).
    pub fgt: bool,
    /// Memory partitioning (FEAT_MPAM).
    pub mpam: bool,
    /// Hardware breakpoints and watchpoints, 1 to 16 each.
    pub breakpoints: u8,
    /// Watchpoints.
    pub watchpoints: u8,
}

/// The identification registers that tell of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// ID_AA64PFR0_EL1.
    pub pfr0: u64,
    /// ID_AA64PFR1_EL1.
    pub pfr1: u64,
    /// ID_AA64DFR0_EL1.
    pub dfr0: u64,
    /// ID_AA64ISAR1_EL1.
    pub isar1: u64,
    /// ID_AA64ISAR2_EL1.
    pub isar2: u64,
    /// ID_AA64MMFR0_EL1.
    pub mmfr0: u64,
    /// ID_AA64MMFR1_EL1.
    pub mmfr1: u64,
}

impl Extras {
    /// From identification registers.
    #[must_use]
    pub const fn of(id: &Ids) -> Self {
        let Ids { pfr0, pfr1, dfr0, isar1, isar2, mmfr0, mmfr1 } = *id;
        // APA, API and APA3: one of them tells the algorithm for addresses.
        let pauth = field(isar1, 4) != 0 || field(isar1, 8) != 0 || field(isar2, 12) != 0;
        let pmu = field(dfr0, 8);
        Self {
            pauth,
            ras: field(pfr0, 28) != 0,
            lor: field(mmfr1, 16) != 0,
            hcx: field(mmfr1, 40) != 0,
            fgt: field(mmfr0, 56) != 0,
            mpam: field(pfr0, 40) != 0 || field(pfr1, 16) != 0,
            spe: field(dfr0, 32) != 0,
            trf: field(dfr0, 40) != 0,
            amu: field(pfr0, 44) != 0,
            sve: field(pfr0, 32) != 0,
            sme: field(pfr1, 24) != 0,
            pmu: pmu != 0 && pmu != 0xf,
            breakpoints: field(dfr0, 12) + 1,
            watchpoints: field(dfr0, 20) + 1,
        }
    }

    /// HCR_EL2 here.
    #[must_use]
    pub const fn hcr(&self) -> u64 {
        HCR | when(self.pauth, HCR_APK | HCR_API) | when(self.ras, HCR_TERR) | when(self.lor, HCR_TLOR)
    }

    /// CPTR_EL2 before the guest has used floating point in this turn, or after.
    #[must_use]
    pub const fn cptr(&self, float: Float) -> u64 {
        // Bits that are RES1 where their feature is missing, and traps where it is there: TSM (12), TZ (8). The rest of the
        // mask is RES1 always.
        const RES1_AND_TRAPS: u64 = 0x33ff;
        const TFP: u64 = 1 << 10;
        // Trace registers: another's run could be read there.
        const TTA: u64 = 1 << 20;
        // Activity monitors count what other VMs do.
        const TAM: u64 = 1 << 30;
        RES1_AND_TRAPS
            | TTA
            | when(self.amu, TAM)
            | match float {
                Float::Trapped => TFP,
                Float::Lent => 0,
            }
    }

    /// MDCR_EL2 before the guest has used a debug register in this turn, or after. `counters` is PMCR_EL0.N.
    #[must_use]
    pub const fn mdcr(&self, debug: Debug, counters: u64) -> u64 {
        // HPMN: all counters count as EL1's, and 0 is not allowed; no counter is EL2's.
        let pmu = when(self.pmu, counters & 0x1f | MDCR_TPM | MDCR_TPMCR);
        let lent = match debug {
            Debug::Trapped => MDCR_TDA,
            Debug::Lent => 0,
        };
        pmu | lent | MDCR_TDOSA | MDCR_TDRA | when(self.spe, MDCR_TPMS) | when(self.trf, MDCR_TTRF)
    }
}

/// PMCR_EL0 is trapped: its reset bits reach all counters.
const MDCR_TPMCR: u64 = 1 << 5;
/// The other registers of the performance monitors, which `idregs` hides.
const MDCR_TPM: u64 = 1 << 6;
/// Breakpoints, watchpoints and MDSCR_EL1, until they are lent: they hold another vCPU's values.
const MDCR_TDA: u64 = 1 << 9;
/// The OS lock and its kin, which are kept per vCPU in software.
const MDCR_TDOSA: u64 = 1 << 10;
/// The debug ROM's address is none of a guest's business.
const MDCR_TDRA: u64 = 1 << 11;
/// Statistical profiling's registers; and with E2PB 0 its buffer belongs to EL2.
const MDCR_TPMS: u64 = 1 << 14;
/// Trace filter control.
const MDCR_TTRF: u64 = 1 << 19;

/// Whether the floating-point registers hold this vCPU's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// They do not; the first use traps.
    Trapped,
    /// They do.
    Lent,
}

/// Whether the debug registers hold this vCPU's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debug {
    /// They do not; the first use traps.
    Trapped,
    /// They do.
    Lent,
}

/// HSTR_EL2: no coprocessor register of AArch32 is trapped by its number. EL0 is all that can run AArch32, and what it reaches
/// there EL1 decides.
pub const HSTR: u64 = 0;

/// HCRX_EL2: nothing of what it turns on is shown, and nothing of what it traps is there.
pub const HCRX: u64 = 0;

/// HFGRTR_EL2, HFGWTR_EL2, HFGITR_EL2, HDFGRTR_EL2 and HDFGWTR_EL2: what firmware left there may be anything. Bits that trap when
/// they are set: none, the traps above say all. Bits that trap when they are clear (their names begin with n) are of features
/// that `idregs` hides: SME, LS64, BRBE, permission indirection.
pub const FINE_GRAINED: u64 = 0;

/// MPAM2_EL2: a guest's own partition numbers are trapped (TRAPMPAM0EL1, TRAPMPAM1EL1); it runs in partition 0.
pub const MPAM2: u64 = 1 << 49 | 1 << 48;

/// CNTHCTL_EL2: EL1 reads the counter (EL1PCTEN, bit 0) and owns the physical timer (EL1PCEN, bit 1), as it owns the virtual
/// one; Trivet has the hypervisor's own. No event stream of EL2's (EVNTEN, bit 2).
pub const CNTHCTL: u64 = 1 << 1 | 1;

const fn field(register: u64, at: u32) -> u8 {
    (register >> at & 0xf) as u8
}

const fn when(there: bool, bits: u64) -> u64 {
    if there { bits } else { 0 }
}

#[cfg(test)]
#[path = "guards_tests.rs"]
mod tests;
