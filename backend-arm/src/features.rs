//! What this processor has of what the backend asks for, from its identification registers.
//!
//! The registers are read once, on the boot CPU (`machine/`); everything here is a function of their values. Trivet never
//! asks for a processor's name. Source: DDI 0487, D23.2 (fields whose values only grow: a larger one has all of the
//! smaller), D23.3 for CTR_EL0 and DCZID_EL0.

/// The identification registers that are asked, as read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRegisters {
    /// ID_AA64MMFR0_EL1.
    pub mmfr0: u64,
    /// ID_AA64MMFR1_EL1.
    pub mmfr1: u64,
    /// ID_AA64MMFR2_EL1.
    pub mmfr2: u64,
    /// CTR_EL0.
    pub ctr: u64,
    /// CLIDR_EL1.
    pub clidr: u64,
    /// DCZID_EL0.
    pub dczid: u64,
}

/// What hardware notes in a stage 2 entry by itself (FEAT_HAFDBS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Marks {
    /// Nothing: an entry without its access flag faults.
    None,
    /// The access flag.
    Access,
    /// The access flag, and that it was stored to.
    Dirty,
}

/// What must be done so that a guest fetches instructions that Trivet wrote, as CTR_EL0 and CLIDR_EL1 say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Smallest data cache line in bytes, a power of two.
    pub data_line: usize,
    /// Data have to be cleaned to the point of unification first: CTR_EL0.IDC is clear, and there are levels of cache
    /// before that point (LoUU, LoUIS; FEAT_S2FWB means that there are none).
    pub clean_for_code: bool,
    /// What then has to be done about instruction caches.
    pub code: Code,
}

/// How instruction caches are made to forget what was written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// They see it by themselves (CTR_EL0.DIC).
    Coherent,
    /// Line by line, of so many bytes, a power of two: they are tagged with physical addresses, so any address of the
    /// line will do.
    Lines(usize),
    /// All of them at once: lines are found by the address that the guest uses, which is not ours.
    Whole,
}

/// The features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Bits of a physical address, at most 48: the 4 KiB granule's entries hold no more without FEAT_LPA2.
    pub address_bits: u8,
    /// VTCR_EL2.PS for that.
    pub address_code: u8,
    /// What hardware notes in stage 2 entries.
    pub marks: Marks,
    /// Bits of a VMID.
    pub vmid_bits: u8,
    /// FEAT_S2FWB: stage 2 alone can make memory cacheable.
    pub forced_write_back: bool,
    /// The caches that instructions come from.
    pub caches: Caches,
    /// Bytes that one DC ZVA zeroes, a power of two, at most 2 KiB; `None` if it is prohibited.
    pub zero_block: Option<usize>,
}

/// CTR_EL0.L1Ip: indexed and tagged with physical addresses.
const PIPT: u64 = 3;

/// The processor lacks what Trivet cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// No 4 KiB granule at stage 2.
    Granule,
    /// Fewer physical address bits than a guest has.
    Addresses(u8),
}

impl core::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Granule => f.write_str("the processor has no second stage with pages of 4 KiB"),
            Self::Addresses(bits) => {
                write!(f, "the processor has {bits} bits of physical address, and guests have {}", Features::GUEST_BITS)
            }
        }
    }
}

impl Features {
    /// Bits of a guest physical address. It may not be more than the processor has of its own.
    pub const GUEST_BITS: u8 = 40;

    /// Reads the registers' values.
    pub fn of(id: &IdRegisters) -> Result<Self, Unsupported> {
        if !granule(id.mmfr0) {
            return Err(Unsupported::Granule);
        }
        // ID_AA64MMFR0_EL1.PARange: 52 bits and more take another entry format.
        let address_code = field(id.mmfr0, 0).min(5);
        let address_bits = [32, 36, 40, 42, 44, 48][usize::from(address_code)];
        if address_bits < Self::GUEST_BITS {
            return Err(Unsupported::Addresses(address_bits));
        }
        let marks = match field(id.mmfr1, 0) {
            0 => Marks::None,
            1 => Marks::Access,
            _ => Marks::Dirty,
        };
        Ok(Self {
            address_bits,
            address_code,
            marks,
            vmid_bits: if field(id.mmfr1, 4) >= 2 { 16 } else { 8 },
            forced_write_back: field(id.mmfr2, 40) != 0,
            caches: Caches {
                data_line: 4 << field(id.ctr, 16),
                clean_for_code: id.ctr >> 28 & 1 == 0 && (id.clidr >> 27 & 7 != 0 || id.clidr >> 21 & 7 != 0),
                code: match (id.ctr >> 29 & 1, id.ctr >> 14 & 3) {
                    (1, _) => Code::Coherent,
                    (_, PIPT) => Code::Lines(4 << field(id.ctr, 0)),
                    _ => Code::Whole,
                },
            },
            zero_block: (id.dczid >> 4 & 1 == 0).then(|| 4 << field(id.dczid, 0).min(9)),
        })
    }
}

/// The four-bit field that begins at bit `at`.
fn field(register: u64, at: u32) -> u8 {
    (register >> at & 0xf) as u8
}

/// The 4 KiB granule at stage 2: TGran4_2 says so, or leaves it to TGran4, whose numbers are signed.
fn granule(mmfr0: u64) -> bool {
    match field(mmfr0, 40) {
        0 => field(mmfr0, 28) < 8,
        1 => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Features, IdRegisters, Marks, Unsupported};

    /// A Cortex-A72, as its manual lists them.
    const A72: IdRegisters =
        IdRegisters { mmfr0: 0x1124, mmfr1: 0, mmfr2: 0, ctr: 0x8444_c004, clidr: 0x0a20_0023, dczid: 4 };
    /// A Neoverse N1.
    const N1: IdRegisters = IdRegisters {
        mmfr0: 0x10_1125,
        mmfr1: 0x1021_2122,
        mmfr2: 0x1011,
        ctr: 0x8444_c004,
        clidr: 0x8200_0023,
        dczid: 4,
    };

    #[test]
    fn processors_are_what_their_manuals_say() {
        let a72 = Features::of(&A72).unwrap();
        assert_eq!((a72.address_bits, a72.marks, a72.vmid_bits), (44, Marks::None, 8));
        assert_eq!((a72.forced_write_back, a72.zero_block), (false, Some(64)));
        assert_eq!((a72.caches.data_line, a72.caches.code), (64, Code::Lines(64)));
        assert!(a72.caches.clean_for_code);
        let n1 = Features::of(&N1).unwrap();
        assert_eq!((n1.address_bits, n1.marks, n1.vmid_bits), (48, Marks::Dirty, 16));
    }

    #[test]
    fn what_is_later_than_trivet_counts_as_what_trivet_knows() {
        let (mmfr2, ctr) = (1 << 40, 3 << 28);
        let later = IdRegisters { mmfr0: 0x1126, mmfr1: 0x23, mmfr2, ctr, dczid: 0x14, ..A72 };
        let found = Features::of(&later).unwrap();
        assert_eq!((found.address_bits, found.address_code), (48, 5), "52 bits need another entry format");
        assert_eq!(found.marks, Marks::Dirty);
        assert!(found.forced_write_back);
        assert!(!found.caches.clean_for_code);
        assert_eq!(found.caches.code, Code::Coherent);
        assert_eq!(found.zero_block, None, "DC ZVA is prohibited");
    }

    #[test]
    fn caches_are_looked_after_as_far_as_they_need_it() {
        let no_levels = Features::of(&IdRegisters { clidr: 0x23, ..A72 }).unwrap();
        assert!(!no_levels.caches.clean_for_code, "the point of unification is before all data caches");
        let virtual_index = Features::of(&IdRegisters { ctr: 0x8444_8004, ..A72 }).unwrap();
        assert_eq!(virtual_index.caches.code, Code::Whole, "a line's place hangs on the guest's address");
    }

    #[test]
    fn a_processor_that_cannot_hold_a_guest_is_refused() {
        let with = |mmfr0| Features::of(&IdRegisters { mmfr0, ..A72 }).map(|_| ());
        assert_eq!(with(0x1121), Err(Unsupported::Addresses(36)));
        assert_eq!(with(0xf000_0000 | 0x1124), Err(Unsupported::Granule));
        assert_eq!(with(1 << 40 | 0x1124), Err(Unsupported::Granule), "at stage 1 only");
        assert_eq!(with(2 << 40 | 0xf000_0000 | 0x1124), Ok(()), "at stage 2 only");
    }
}
