//! What this processor has of what the backend asks for, from its CPUID leaves and capability registers.
//!
//! Read once, on the boot CPU; everything here is a function of the values, and [`Features::of`] asks for a register
//! only if what it has read says that there is one. Trivet never asks for a processor's name. Sources: Intel SDM vol.
//! 2A (CPUID) and vol. 3D, appendix A; AMD APM vol. 3, appendix E, and vol. 2, 15.4 and 15.30.

use bitflags::bitflags;
use hv_core::addr::{Order, Orders};

/// The CPUID leaves that are asked, as read. Leaves that a processor does not have are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpuid {
    /// Leaf 1, ECX.
    pub leaf1_ecx: u32,
    /// Leaf 8000_0001, ECX.
    pub extended1_ecx: u32,
    /// Leaf 8000_0001, EDX.
    pub extended1_edx: u32,
    /// Leaf 8000_0008, EAX.
    pub sizes_eax: u32,
    /// Leaf 8000_000A, EBX.
    pub svm_ebx: u32,
    /// Leaf 8000_000A, EDX.
    pub svm_edx: u32,
}

/// The registers that [`Features::of`] may ask for.
pub mod msr {
    /// IA32_FEATURE_CONTROL.
    pub const FEATURE_CONTROL: u32 = 0x3a;
    /// IA32_VMX_BASIC.
    pub const VMX_BASIC: u32 = 0x480;
    /// IA32_VMX_PROCBASED_CTLS.
    pub const VMX_PROCBASED: u32 = 0x482;
    /// IA32_VMX_PROCBASED_CTLS2. There only if `VMX_PROCBASED` allows its bit 31.
    pub const VMX_PROCBASED2: u32 = 0x48b;
    /// IA32_VMX_MISC.
    pub const VMX_MISC: u32 = 0x485;
    /// IA32_VMX_EPT_VPID_CAP. There only if `VMX_PROCBASED2` allows EPT or VPID.
    pub const VMX_EPT_VPID: u32 = 0x48c;
    /// VM_CR.
    pub const VM_CR: u32 = 0xc001_0114;
}

bitflags! {
    /// What an SVM has: leaf 8000_000A, EDX.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Svm: u32 {
        /// Nested paging.
        const NESTED_PAGING = 1 << 0;
        /// The VMCB tells where the instruction after the one that was intercepted is.
        const NEXT_RIP = 1 << 3;
        /// Fields that the VMCB marks clean are not loaded again.
        const CLEAN_BITS = 1 << 5;
        /// One ASID's translations can be flushed.
        const FLUSH_BY_ASID = 1 << 6;
        /// The VMCB holds the bytes of an instruction that faulted.
        const DECODE_ASSISTS = 1 << 7;
        /// The guest has a GIF of its own.
        const VGIF = 1 << 16;
        /// NMIs are delivered to the guest as its interrupts are.
        const VNMI = 1 << 25;
    }
}

bitflags! {
    /// What EPT and VPID can do: IA32_VMX_EPT_VPID_CAP.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EptVpid: u64 {
        /// Walks of four levels.
        const FOUR_LEVELS = 1 << 6;
        /// Table walks through write-back caches.
        const WRITE_BACK = 1 << 14;
        /// Leaves of 2 MiB.
        const LEAVES_2M = 1 << 16;
        /// Leaves of 1 GiB.
        const LEAVES_1G = 1 << 17;
        /// INVEPT.
        const INVEPT = 1 << 20;
        /// Accessed and dirty bits.
        const MARKS = 1 << 21;
        /// INVEPT of one EPT pointer's translations.
        const INVEPT_ONE = 1 << 25;
        /// INVEPT of all translations.
        const INVEPT_ALL = 1 << 26;
        /// INVVPID.
        const INVVPID = 1 << 32;
        /// INVVPID of one VPID's translations.
        const INVVPID_ONE = 1 << 41;
        /// INVVPID of all translations.
        const INVVPID_ALL = 1 << 42;
    }
}

/// Whose extension there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// AMD's.
    Svm {
        /// What it has.
        has: Svm,
        /// ASIDs, of which 0 is the host's.
        asids: u32,
    },
    /// Intel's.
    Vmx {
        /// What EPT and VPID can do. No flag of INVVPID if there are no VPIDs.
        has: EptVpid,
        /// The revision that begins a VMCS.
        revision: u32,
    },
}

/// The kinds of second stage ([`crate::stage2::format`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nested {
    /// EPT with accessed and dirty bits.
    EptMarks,
    /// EPT without.
    EptTrap,
    /// Nested page tables.
    Npt,
}

/// The features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Whose extension.
    pub extension: Extension,
    /// Bits of a physical address: those above are reserved in an entry.
    pub address_bits: u8,
    /// Leaf 8000_0001, EDX 26: pages of 1 GiB in tables of long mode, nested ones among them.
    gib_pages: bool,
}

/// The processor lacks what Trivet cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// Neither SVM nor VMX.
    NoExtension,
    /// Firmware has switched it off.
    Locked,
    /// SVM without nested paging, or VMX without EPT.
    NoNestedPaging,
    /// No execute-disable bit.
    NoExecuteDisable,
    /// EPT of another geometry, in memory that is not cached, or that cannot be flushed.
    Ept(EptVpid),
}

impl core::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoExtension => f.write_str("the processor has neither SVM nor VMX"),
            Self::Locked => f.write_str("firmware has switched SVM or VMX off"),
            Self::NoNestedPaging => f.write_str("the processor has no nested paging, and shadow paging is not there"),
            Self::NoExecuteDisable => f.write_str("the processor's page tables cannot forbid execution"),
            Self::Ept(lacks) => write!(f, "the processor's EPT lacks {lacks:?}"),
        }
    }
}

const LEAF1_VMX: u32 = 1 << 5;
const EXTENDED1_SVM: u32 = 1 << 2;
const EXTENDED1_NX: u32 = 1 << 20;
const EXTENDED1_GIB: u32 = 1 << 26;
/// VM_CR.SVMDIS: EFER.SVME cannot be set.
const VM_CR_DISABLED: u64 = 1 << 4;
/// IA32_FEATURE_CONTROL: it cannot be written any more.
const CONTROL_LOCKED: u64 = 1 << 0;
/// IA32_FEATURE_CONTROL: VMXON works outside of SMX.
const CONTROL_VMXON: u64 = 1 << 2;
/// IA32_VMX_PROCBASED_CTLS: what may be 1 is in the upper half. Secondary controls are there.
const MAY_SECONDARY: u64 = 1 << (32 + 31);
/// IA32_VMX_PROCBASED_CTLS2: EPT may be used.
const MAY_EPT: u64 = 1 << (32 + 1);
/// IA32_VMX_PROCBASED_CTLS2: VPIDs may be used.
const MAY_VPID: u64 = 1 << (32 + 5);

impl Features {
    /// Reads the values; `read` reads a register of [`msr`].
    pub fn of(id: &Cpuid, read: impl Fn(u32) -> u64) -> Result<Self, Unsupported> {
        let extension = if id.extended1_ecx & EXTENDED1_SVM != 0 {
            svm(id, &read)?
        } else if id.leaf1_ecx & LEAF1_VMX != 0 {
            vmx(&read)?
        } else {
            return Err(Unsupported::NoExtension);
        };
        if id.extended1_edx & EXTENDED1_NX == 0 {
            return Err(Unsupported::NoExecuteDisable);
        }
        // A processor without the leaf has 36 bits (SDM vol. 3A, "Enumeration of Paging Features by CPUID").
        let address_bits = match id.sizes_eax as u8 {
            0 => 36,
            bits => bits.min(52),
        };
        Ok(Self { extension, address_bits, gib_pages: id.extended1_edx & EXTENDED1_GIB != 0 })
    }

    /// The kind of second stage.
    #[must_use]
    pub fn nested(&self) -> Nested {
        match self.extension {
            Extension::Svm { .. } => Nested::Npt,
            Extension::Vmx { has, .. } if has.contains(EptVpid::MARKS) => Nested::EptMarks,
            Extension::Vmx { .. } => Nested::EptTrap,
        }
    }

    /// The sizes of leaves that the second stage has.
    #[must_use]
    pub fn leaves(&self) -> Orders {
        let (two, one) = match self.extension {
            Extension::Svm { .. } => (true, self.gib_pages),
            Extension::Vmx { has, .. } => (has.contains(EptVpid::LEAVES_2M), has.contains(EptVpid::LEAVES_1G)),
        };
        let with = |orders: Orders, order, there| if there { orders.with(order) } else { orders };
        with(with(Orders::NONE.with(Order::PAGE), Order::MIB2, two), Order::GIB, one)
    }
}

fn svm(id: &Cpuid, read: impl Fn(u32) -> u64) -> Result<Extension, Unsupported> {
    if read(msr::VM_CR) & VM_CR_DISABLED != 0 {
        return Err(Unsupported::Locked);
    }
    let has = Svm::from_bits_truncate(id.svm_edx);
    // ASID 0 is the host's, so there have to be two.
    if !has.contains(Svm::NESTED_PAGING) || id.svm_ebx < 2 {
        return Err(Unsupported::NoNestedPaging);
    }
    Ok(Extension::Svm { has, asids: id.svm_ebx })
}

fn vmx(read: impl Fn(u32) -> u64) -> Result<Extension, Unsupported> {
    feature_control(read(msr::FEATURE_CONTROL)).ok_or(Unsupported::Locked)?;
    if read(msr::VMX_PROCBASED) & MAY_SECONDARY == 0 {
        return Err(Unsupported::NoNestedPaging);
    }
    let secondary = read(msr::VMX_PROCBASED2);
    if secondary & MAY_EPT == 0 {
        return Err(Unsupported::NoNestedPaging);
    }
    let mut has = EptVpid::from_bits_truncate(read(msr::VMX_EPT_VPID));
    if secondary & MAY_VPID == 0 {
        has.remove(EptVpid::INVVPID | EptVpid::INVVPID_ONE | EptVpid::INVVPID_ALL);
    }
    let needs = EptVpid::FOUR_LEVELS | EptVpid::WRITE_BACK | EptVpid::INVEPT | EptVpid::INVEPT_ALL;
    if !has.contains(needs) {
        return Err(Unsupported::Ept(needs.difference(has)));
    }
    // Bit 31 is always 0.
    Ok(Extension::Vmx { has, revision: read(msr::VMX_BASIC) as u32 & 0x7fff_ffff })
}

/// What IA32_FEATURE_CONTROL has to be for VMXON, if firmware has left it `found`: itself, if it is locked. `None` if it is
/// locked without.
#[must_use]
pub const fn feature_control(found: u64) -> Option<u64> {
    match found & (CONTROL_LOCKED | CONTROL_VMXON) {
        CONTROL_LOCKED => None,
        locked if locked & CONTROL_LOCKED != 0 => Some(found),
        _ => Some(found | CONTROL_LOCKED | CONTROL_VMXON),
    }
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
