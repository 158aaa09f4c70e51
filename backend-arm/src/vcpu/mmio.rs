//! A load or store to a device, from the syndrome of its data abort to the register that receives the answer.
//!
//! Only accesses with a valid syndrome come here (ISV, DDI 0487, D24.2.40, ISS of a data abort): one general register,
//! no write-back. The rest is answered with an external abort, as hardware answers where nothing lies.

use hv_core::addr::Gpa;

/// How wide an access is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits.
    Double,
}

impl Width {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self as u32
    }

    /// In bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }

    /// All ones of this width.
    #[must_use]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// A load, and how what was loaded fills the register.
    Load(Extend),
    /// A store.
    Store,
}

/// How a loaded value fills its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// With zeros.
    Zero,
    /// With its sign, to 32 bits; the upper half becomes zero.
    SignWord,
    /// With its sign, to 64 bits.
    SignDouble,
}

/// Byte order of a data access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataOrder {
    /// Little-endian, which devices are.
    Little,
    /// Big-endian.
    Big,
}

/// One access to a device's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioAccess {
    /// Where; may be misaligned.
    pub gpa: Gpa,
    /// How wide.
    pub width: Width,
    /// The general register; 31 is the zero register.
    pub register: u8,
    /// Load or store.
    pub transfer: Transfer,
}

impl MmioAccess {
    /// The access to `gpa` with the instruction-specific syndrome `iss`, of which ISV says that it is valid.
    #[must_use]
    #[inline]
    pub const fn of(iss: u32, gpa: Gpa) -> Self {
        let width = match iss >> 22 & 3 {
            0 => Width::Byte,
            1 => Width::Half,
            2 => Width::Word,
            _ => Width::Double,
        };
        let transfer = match (iss & ISS_WRITE != 0, iss & ISS_SIGNED != 0, iss & ISS_SIXTY_FOUR != 0) {
            (true, ..) => Transfer::Store,
            (false, false, _) => Transfer::Load(Extend::Zero),
            (false, true, false) => Transfer::Load(Extend::SignWord),
            (false, true, true) => Transfer::Load(Extend::SignDouble),
        };
        Self { gpa, width, register: (iss >> 16 & 31) as u8, transfer }
    }

    /// The value that a store of a register holding `register` sends to the device.
    #[must_use]
    pub const fn stored(&self, register: u64, order: DataOrder) -> u64 {
        self.swapped(register & self.width.mask(), order)
    }

    /// What the register holds after a load that brought `value`.
    #[must_use]
    pub const fn loaded(&self, value: u64, order: DataOrder) -> u64 {
        let value = self.swapped(value & self.width.mask(), order);
        let Transfer::Load(extend) = self.transfer else { return value };
        let unused = 64 - self.width.bits();
        let signed = (((value << unused) as i64) >> unused) as u64;
        match extend {
            Extend::Zero => value,
            Extend::SignWord => signed & 0xffff_ffff,
            Extend::SignDouble => signed,
        }
    }

    const fn swapped(&self, value: u64, order: DataOrder) -> u64 {
        match order {
            DataOrder::Little => value,
            DataOrder::Big => value.swap_bytes() >> (64 - self.width.bits()),
        }
    }
}

/// ISS: the access was a store.
pub const ISS_WRITE: u32 = 1 << 6;
/// ISS: sign extension (SSE).
const ISS_SIGNED: u32 = 1 << 21;
/// ISS: the register is 64 bits wide (SF).
const ISS_SIXTY_FOUR: u32 = 1 << 15;

#[cfg(test)]
mod tests {
    use hv_core::addr::Gpa;

    use super::{DataOrder, Extend, MmioAccess, Transfer, Width};

    fn access(width: Width, transfer: Transfer) -> MmioAccess {
        MmioAccess { gpa: Gpa(0), width, register: 0, transfer }
    }

    #[test]
    fn the_syndrome_says_what_was_accessed() {
        // ldrsb x3, [x0]: SAS 0, SSE, SRT 3, SF. strh w31 (wzr), [x1]: SAS 1, SRT 31, WnR.
        let load = MmioAccess::of(1 << 24 | 1 << 21 | 3 << 16 | 1 << 15 | 7, Gpa(0x80_0900_0018));
        assert_eq!(
            load,
            MmioAccess {
                gpa: Gpa(0x80_0900_0018),
                register: 3,
                ..access(Width::Byte, Transfer::Load(Extend::SignDouble))
            }
        );
        let store = MmioAccess::of(1 << 24 | 1 << 22 | 31 << 16 | 1 << 6 | 7, Gpa(4));
        assert_eq!(store, MmioAccess { gpa: Gpa(4), register: 31, ..access(Width::Half, Transfer::Store) });
        assert_eq!(MmioAccess::of(2 << 22 | 1 << 21, Gpa(0)).transfer, Transfer::Load(Extend::SignWord));
        assert_eq!(MmioAccess::of(3 << 22, Gpa(0)), access(Width::Double, Transfer::Load(Extend::Zero)));
    }

    #[test]
    fn a_load_fills_its_register_as_the_instruction_says() {
        let load =
            |width, extend| access(width, Transfer::Load(extend)).loaded(0xdead_beef_cafe_8081, DataOrder::Little);
        assert_eq!(load(Width::Byte, Extend::Zero), 0x81);
        assert_eq!(load(Width::Byte, Extend::SignWord), 0xffff_ff81);
        assert_eq!(load(Width::Half, Extend::SignDouble), 0xffff_ffff_ffff_8081);
        assert_eq!(load(Width::Word, Extend::Zero), 0xcafe_8081);
        assert_eq!(load(Width::Word, Extend::SignDouble), 0xffff_ffff_cafe_8081);
        assert_eq!(load(Width::Double, Extend::Zero), 0xdead_beef_cafe_8081);
    }

    #[test]
    fn a_store_sends_no_more_than_its_width() {
        let store = |width, order| access(width, Transfer::Store).stored(0x1122_3344_5566_7788, order);
        assert_eq!(store(Width::Byte, DataOrder::Little), 0x88);
        assert_eq!(store(Width::Half, DataOrder::Big), 0x8877);
        assert_eq!(store(Width::Word, DataOrder::Big), 0x8877_6655);
        assert_eq!(store(Width::Double, DataOrder::Big), 0x8877_6655_4433_2211);
    }

    #[test]
    fn a_big_endian_load_is_turned_before_it_is_extended() {
        let load = access(Width::Half, Transfer::Load(Extend::SignDouble));
        assert_eq!(load.loaded(0x0180, DataOrder::Big), 0xffff_ffff_ffff_8001);
    }
}
