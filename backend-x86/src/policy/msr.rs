//! Model-specific registers (SDM volume 4; APM volume 2, appendix A): who answers for which.

use hv_core::sync::{AtomicU32, Ordering};

use crate::apic;
use crate::bus::GeneralProtection;
use crate::guest::told::{SYSTEM_TIME, WALL_CLOCK};

/// Who answers for a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The vCPU: the register's value is switched with it.
    Switched,
    /// The vCPU's clock: IA32_TSC.
    Clock,
    /// The local APIC: its base, its timer's deadline, its registers.
    Apic,
    /// What a guest is told of the clock ([`crate::guest::told`]).
    Told,
    /// Reads as this. What is written is dropped, because systems write there what they would on any processor.
    Fixed(u64),
    /// Reads as this, and cannot be written.
    Constant(u64),
    /// Nobody: #GP.
    Nobody,
}

/// IA32_TSC.
pub const TSC: u32 = 0x10;
/// IA32_APIC_BASE.
pub const APIC_BASE: u32 = 0x1b;
/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6e0;

/// MTRRs: write-back is the type of everything, no range differs.
const MTRR_DEFAULT: u64 = 1 << 11 | 6;
/// HWCR.TscFreqSel: the time-stamp counter does not change its rate.
const TSC_FREQ_SEL: u64 = 1 << 24;

/// The table.
#[must_use]
pub const fn owner(msr: u32) -> Owner {
    match msr {
        TSC => Owner::Clock,
        APIC_BASE | TSC_DEADLINE | apic::FIRST_MSR..=apic::LAST_MSR => Owner::Apic,
        WALL_CLOCK | SYSTEM_TIME => Owner::Told,
        // SYSENTER_CS, _ESP, _EIP; PAT.
        0x174..=0x176 | 0x277 => Owner::Switched,
        // EFER, STAR, LSTAR, CSTAR, FMASK; FS, GS and kernel GS base; TSC_AUX.
        0xc000_0080..=0xc000_0084 | 0xc000_0100..=0xc000_0103 => Owner::Switched,
        // Platform ID and microcode revision, which is written before it is read.
        0x17 | 0x8b => Owner::Fixed(0),
        // IA32_FEATURE_CONTROL: locked, with nothing on.
        0x3a => Owner::Constant(1),
        // IA32_MTRRCAP: no ranges.
        0xfe => Owner::Constant(0),
        0x2ff => Owner::Fixed(MTRR_DEFAULT),
        // IA32_MCG_CAP: no bank, no control register. IA32_MCG_STATUS: no machine check is being handled.
        0x179 => Owner::Constant(0),
        0x17a => Owner::Fixed(0),
        // IA32_MISC_ENABLE: fast strings. IA32_DEBUGCTL.
        0x1a0 => Owner::Fixed(1),
        0x1d9 => Owner::Fixed(0),
        // SYSCFG, HWCR, DE_CFG (LFENCE waits for what is before it).
        0xc001_0010 => Owner::Fixed(0),
        0xc001_0015 => Owner::Fixed(TSC_FREQ_SEL),
        // NB_CFG: no extended configuration accesses by ports.
        0xc001_001f => Owner::Fixed(0),
        // Interrupt pending message: what a chipset would be told of a halt.
        0xc001_0055 => Owner::Fixed(0),
        0xc001_1029 => Owner::Fixed(1 << 1),
        _ => Owner::Nobody,
    }
}

/// EFER as a guest may have it: SCE, LME, NXE. LMA is the processor's. What one vendor has only is not among them: a VMX
/// processor enters no guest with a bit that it does not know (SDM 26.3.1.1).
const EFER: u64 = 1 << 0 | 1 << 8 | 1 << 11;
const EFER_LMA: u64 = 1 << 10;
const EFER_LME: u64 = 1 << 8;

/// Whether paging is on, which decides whether long mode can be switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// CR0.PG = 0.
    Off,
    /// CR0.PG = 1.
    On,
}

/// What EFER becomes when the guest writes `value` over `now`.
pub fn efer(now: u64, value: u64, paging: Paging) -> Result<u64, GeneralProtection> {
    let switches = (now ^ value) & EFER_LME != 0;
    if value & !(EFER | EFER_LMA) != 0 || switches && paging == Paging::On {
        return Err(GeneralProtection);
    }
    Ok(value & EFER | now & EFER_LMA)
}

/// Whether `value` may be written to PAT: eight memory types, of which 2, 3 and those from 8 on do not exist.
pub const fn pat(value: u64) -> Result<u64, GeneralProtection> {
    let high = value & 0xf8f8_f8f8_f8f8_f8f8 != 0;
    // Bit 1 without bit 2.
    let reserved = value >> 1 & !(value >> 2) & 0x0101_0101_0101_0101 != 0;
    if high || reserved { Err(GeneralProtection) } else { Ok(value) }
}

/// Which refused registers have been spoken of: each once, and not more than there are places.
#[derive(Debug)]
pub struct Noted([AtomicU32; 32]);

impl Noted {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicU32::new(0)))
    }

    /// True the first time that it is asked about `msr`.
    #[must_use]
    pub fn is_first(&self, msr: u32) -> bool {
        // 0 is an empty place: of register 0, an old machine check address, nobody need hear.
        for place in &self.0 {
            match place.compare_exchange(0, msr, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return msr != 0,
                Err(found) if found == msr => return false,
                Err(_) => {}
            }
        }
        false
    }
}

impl Default for Noted {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{Noted, Owner, Paging, efer, owner, pat};
    use crate::bus::GeneralProtection;

    #[test]
    fn what_nobody_names_is_refused() {
        // SPEC_CTRL, SMBASE, MCG_CTL, PMCs, VM_CR, VM_HSAVE_PA, VMX capabilities, KVM's page faults.
        for msr in [0x48, 0x9e, 0x17b, 0xc1, 0x186, 0x309, 0x480, 0xc001_0114, 0xc001_0117, 0x4b56_4d02, 0, u32::MAX] {
            assert_eq!(owner(msr), Owner::Nobody, "{msr:#x}");
        }
        assert_eq!([0x7ff, 0x800, 0x8ff, 0x900].map(|msr| owner(msr) == Owner::Apic), [false, true, true, false]);
        assert_eq!(
            (owner(0xc000_0080), owner(0xc000_0102), owner(0xc000_0104)),
            (Owner::Switched, Owner::Switched, Owner::Nobody)
        );
    }

    #[test]
    fn no_bank_reports_machine_checks() {
        assert_eq!((owner(0x179), owner(0x17a)), (Owner::Constant(0), Owner::Fixed(0)));
        // Banks' control, status, address and misc; AMD's second place for them.
        assert!((0x400..0x480).chain(0xc000_2000..0xc000_2200).all(|msr| owner(msr) == Owner::Nobody));
    }

    #[test]
    fn efer_has_no_svm_and_long_mode_changes_without_paging_only() {
        assert_eq!(efer(0x500, 0xd01, Paging::On), Ok(0xd01));
        assert_eq!(efer(0x500, 0x001, Paging::On), Err(GeneralProtection));
        assert_eq!(efer(0x000, 0x100, Paging::On), Err(GeneralProtection));
        assert_eq!(efer(0x000, 0x500, Paging::Off), Ok(0x100), "LMA comes with paging");
        for bit in [1, 12, 13, 14, 15, 63] {
            assert_eq!(efer(0, 1 << bit, Paging::Off), Err(GeneralProtection));
        }
    }

    #[test]
    fn pat_takes_memory_types_only() {
        assert_eq!(pat(0x0007_0406_0007_0406), Ok(0x0007_0406_0007_0406));
        for byte in 0..=255_u64 {
            for shift in [0, 24, 56] {
                assert_eq!(pat(byte << shift).is_ok(), matches!(byte, 0 | 1 | 4..=7), "{byte}");
            }
        }
    }

    #[test]
    fn each_refused_register_is_spoken_of_once_and_a_flood_ends() {
        let noted = Noted::new();
        assert!(noted.is_first(0x48) && noted.is_first(0x49));
        assert!(!noted.is_first(0x48) && !noted.is_first(0));
        assert_eq!((0x1000..0x2000).filter(|msr| noted.is_first(*msr)).count(), 30);
        assert!(!noted.is_first(0x1000));
    }
}
