//! CR0 and CR4 of a guest: which bits are its own, and what becomes of a write that it may not carry out itself (Intel SDM
//! vol. 3C, "Guest/Host Masks and Read Shadows for CR0 and CR4"; vol. 3D, A.7 and A.8). Pure.
//!
//! ```text
//!   CR0   the guest's:  PG AM WP TS EM MP PE ...      Trivet's:  CD NW   caches stay on, whatever a guest says
//!                                                                NE      VMX operation wants it
//!   CR4   the guest's:  what CPUID shows it           Trivet's:  MCE        machine checks are the machine's
//!                                                                VMXE, and what it is not shown, which stay 0
//! ```
//!
//! Of a bit that is Trivet's the guest reads what it wrote, from the shadow. A write that changes one ends the run; the shadow
//! is then made what the guest writes, and **the guest is entered at the same instruction**, which now differs in bits of its
//! own only: hardware carries it out, with all that hangs on it (the switch to long mode, the entries of PAE's upper level).

use super::controls::fixed;
use crate::bus::GeneralProtection;

const PE: u64 = 1 << 0;
const NE: u64 = 1 << 5;
const NW: u64 = 1 << 29;
const CD: u64 = 1 << 30;
const PG: u64 = 1 << 31;
/// CR4: MCE, VMXE.
const MCE: u64 = 1 << 6;
const VMXE: u64 = 1 << 13;

/// Bits of CR4 that guests may have, as far as the processor has them: VME, PVI, TSD, DE, PSE, PAE; PGE, PCE, OSFXSR,
/// OSXMMEXCPT, UMIP; FSGSBASE, PCIDE; SMEP, SMAP. What [`crate::policy::cpuid`] does not show is not here.
const CR4_GUEST: u64 = 0x3f | 0xf80 | 3 << 16 | 3 << 20;

/// What the processor wants of the two registers in VMX operation: bits that have to be 1, bits that may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// IA32_VMX_CR0_FIXED0 and FIXED1.
    pub cr0: (u64, u64),
    /// IA32_VMX_CR4_FIXED0 and FIXED1.
    pub cr4: (u64, u64),
}

impl Fixed {
    /// Reads them; `read` reads a capability register.
    pub fn of(read: impl Fn(u32) -> u64) -> Self {
        Self { cr0: (read(0x486), read(0x487)), cr4: (read(0x488), read(0x489)) }
    }

    /// What CR0 has to have under an unrestricted guest: it may run unpaged and unprotected.
    const fn cr0_must(&self) -> u64 {
        self.cr0.0 & !(PE | PG) | NE
    }

    /// Bits of CR0 that are Trivet's.
    #[must_use]
    pub const fn cr0_mask(&self) -> u64 {
        CD | NW | self.cr0_must() | !self.cr0.1
    }

    /// Bits of CR4 that are Trivet's.
    #[must_use]
    pub const fn cr4_mask(&self) -> u64 {
        !(CR4_GUEST & self.cr4.1)
    }

    /// The register's contents behind a CR0 that the guest sees.
    #[must_use]
    pub const fn cr0(&self, seen: u64) -> u64 {
        fixed(seen & !(CD | NW), self.cr0_must(), self.cr0.1)
    }

    /// The same of CR4.
    #[must_use]
    pub const fn cr4(&self, seen: u64) -> u64 {
        fixed(seen & !self.cr4_mask(), self.cr4.0 | VMXE | MCE, self.cr4.1)
    }
}

/// What the guest sees of a register.
#[must_use]
pub const fn seen(register: u64, shadow: u64, mask: u64) -> u64 {
    register & !mask | shadow & mask
}

/// Whether the guest may write `value` to CR0. What is not checked here hardware checks, because it carries the write out.
pub const fn written_cr0(value: u64) -> Result<u64, GeneralProtection> {
    let paged_unprotected = value & PG != 0 && value & PE == 0;
    let through_uncached = value & NW != 0 && value & CD == 0;
    if value >> 32 != 0 || paged_unprotected || through_uncached { Err(GeneralProtection) } else { Ok(value) }
}

/// Whether the guest may write `value` to CR4, of which `mask` is Trivet's: of that it may have MCE, for show, and nothing else.
/// The rest hardware checks.
pub const fn written_cr4(value: u64, mask: u64) -> Result<u64, GeneralProtection> {
    if value & mask & !MCE != 0 { Err(GeneralProtection) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::{CD, Fixed, MCE, NE, NW, PE, PG, VMXE, seen, written_cr0, written_cr4};
    use crate::bus::GeneralProtection;

    /// A Skylake's.
    const FIXED: Fixed = Fixed { cr0: (0x8000_0021, 0xffff_ffff), cr4: (0x2000, 0x37_67ff) };
    const WP: u64 = 1 << 16;

    #[test]
    fn a_guest_begins_unpaged_and_cached() {
        assert_eq!(FIXED.cr0(CD | NW | 0x10), 0x30);
        assert_eq!(FIXED.cr0(0x8000_0011), 0x8000_0031);
        assert_eq!(FIXED.cr4(0), VMXE | MCE);
    }

    #[test]
    fn it_changes_paging_by_itself_and_caches_never() {
        let mask = FIXED.cr0_mask();
        assert_eq!(mask & (PE | PG | WP | 0xe), 0, "no exit");
        assert_eq!(mask & (CD | NW | NE), CD | NW | NE);
    }

    #[test]
    fn of_cr4_it_has_what_it_is_shown() {
        let mask = FIXED.cr4_mask();
        for bit in [4, 5, 7, 9, 10, 16, 17, 20, 21] {
            assert_eq!(mask >> bit & 1, 0, "{bit}");
        }
        // MCE, LA57, VMXE, SMXE, OSXSAVE, PKE, CET.
        for bit in [6, 12, 13, 14, 18, 22, 23, 40] {
            assert_eq!(mask >> bit & 1, 1, "{bit}");
        }
        assert_eq!(FIXED.cr4(1 << 12 | 1 << 18 | 1 << 5), VMXE | MCE | 1 << 5, "what is not its own is not set");
        // UMIP on a processor without it.
        assert_eq!(mask >> 11 & 1, 1);
    }

    #[test]
    fn it_reads_what_it_wrote() {
        let mask = FIXED.cr0_mask();
        let wrote = CD | 0x10 | PE;
        assert_eq!(seen(FIXED.cr0(wrote), wrote, mask), wrote, "CD as written, NE not");
        assert_eq!(seen(FIXED.cr4(0x20), 0, FIXED.cr4_mask()), 0x20, "no VMXE, no MCE");
        let wrote = 0x20 | MCE;
        assert_eq!(seen(FIXED.cr4(wrote), wrote, FIXED.cr4_mask()), wrote, "MCE as written");
    }

    #[test]
    fn what_no_processor_takes_is_refused() {
        for bad in [PG, NW | PE, 1 << 32, 1 << 63 | PE] {
            assert_eq!(written_cr0(bad), Err(GeneralProtection), "{bad:#x}");
        }
        for good in [PE, PG | PE, CD | NW, CD | PE | PG] {
            assert_eq!(written_cr0(good), Ok(good));
        }
    }

    #[test]
    fn machine_checks_are_the_only_bit_of_cr4_that_is_for_show() {
        for good in [0, MCE, MCE | 0x20, 0x37_0fbf & !FIXED.cr4_mask() | MCE] {
            assert_eq!(written_cr4(good, FIXED.cr4_mask()), Ok(good), "{good:#x}");
        }
        // UMIP on a processor without it; LA57, VMXE, SMXE, OSXSAVE, PKE, CET; what there is not.
        for bit in [11, 12, 13, 14, 18, 22, 23, 32, 63] {
            assert_eq!(written_cr4(1 << bit | MCE | 0x20, FIXED.cr4_mask()), Err(GeneralProtection), "{bit}");
        }
        assert_eq!((FIXED.cr4(0) & MCE, FIXED.cr4(MCE) & MCE), (MCE, MCE), "the machine's is on all the time");
    }
}
