//! System registers that aarch64-cpu has no name for, by the manual's names and, where a plain ARMv8.0 assembler may not know
//! them, by their encodings. The same interface as that crate's.
#![expect(unsafe_code, reason = "reads and writes system registers")]

macro_rules! register {
    ($(#[$doc:meta])* $name:ident = $encoding:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[expect(non_camel_case_types, reason = "the manual's name")]
        pub struct $name;

        impl $name {
            /// Its value.
            #[inline]
            pub fn get(self) -> u64 {
                let value;
                // SAFETY: reading the register has no effect on this program.
                unsafe { core::arch::asm!(concat!("mrs {}, ", $encoding), out(reg) value, options(nomem, nostack)) };
                value
            }

            /// Sets it.
            #[inline]
            pub fn set(self, value: u64) {
                // SAFETY: the register belongs to guests, or controls what they may do; EL2's own execution does not
                // depend on it.
                unsafe { core::arch::asm!(concat!("msr ", $encoding, ", {}"), in(reg) value, options(nomem, nostack)) };
            }
        }
    };
}

register!(
    /// Virtualization processor ID.
    VPIDR_EL2 = "VPIDR_EL2"
);
register!(
    /// Hypervisor system trap register.
    HSTR_EL2 = "HSTR_EL2"
);
register!(
    /// Extended hypervisor configuration; there with FEAT_HCX.
    HCRX_EL2 = "S3_4_C1_C2_2"
);
register!(
    /// Memory partitioning at EL2; there with FEAT_MPAM.
    MPAM2_EL2 = "S3_4_C10_C5_0"
);
register!(
    /// Hypervisor physical timer's compare value.
    CNTHP_CVAL_EL2 = "CNTHP_CVAL_EL2"
);
register!(
    /// EL1's key A for instructions, low half.
    APIAKEYLO_EL1 = "S3_0_C2_C1_0"
);
register!(
    /// EL1's key A for instructions, high half.
    APIAKEYHI_EL1 = "S3_0_C2_C1_1"
);
register!(
    /// EL1's key B for instructions, low half.
    APIBKEYLO_EL1 = "S3_0_C2_C1_2"
);
register!(
    /// EL1's key B for instructions, high half.
    APIBKEYHI_EL1 = "S3_0_C2_C1_3"
);
register!(
    /// EL1's key A for data, low half.
    APDAKEYLO_EL1 = "S3_0_C2_C2_0"
);
register!(
    /// EL1's key A for data, high half.
    APDAKEYHI_EL1 = "S3_0_C2_C2_1"
);
register!(
    /// EL1's key B for data, low half.
    APDBKEYLO_EL1 = "S3_0_C2_C2_2"
);
register!(
    /// EL1's key B for data, high half.
    APDBKEYHI_EL1 = "S3_0_C2_C2_3"
);
register!(
    /// EL1's generic key, low half.
    APGAKEYLO_EL1 = "S3_0_C2_C3_0"
);
register!(
    /// EL1's generic key, high half.
    APGAKEYHI_EL1 = "S3_0_C2_C3_1"
);
register!(
    /// Instruction set attributes 2.
    ID_AA64ISAR2_EL1 = "S3_0_C0_C6_2"
);

macro_rules! identification {
    ($crm:expr, $op2:expr; $($c:literal: $($o:literal)*;)*) => {
        match ($crm, $op2) {
            $($(
                ($c, $o) => {
                    let value;
                    // SAFETY: reads a constant.
                    unsafe { core::arch::asm!(concat!("mrs {}, S3_0_C0_C", $c, "_", $o), out(reg) value, options(nomem, nostack)) };
                    value
                }
            )*)*
            _ => 0,
        }
    };
}

/// The identification register (3, 0, 0, `crm`, `op2`), `crm` 1 to 7; 0 where none was known.
#[must_use]
#[inline]
pub fn identification(crm: u32, op2: u32) -> u64 {
    identification!(crm, op2;
        1: 0 1 2 3 4 5 6 7;
        2: 0 1 2 3 4 5 6 7;
        3: 0 1 2 4 5 6;
        4: 0 1;
        5: 0 1;
        6: 0 1 2;
        7: 0 1 2;
    )
}
