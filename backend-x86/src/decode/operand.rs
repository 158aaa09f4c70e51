//! The ModRM byte and what follows it, as far as an access to a device needs it: its register or opcode extension.
//! Where its memory is the second stage has said; the rest is there to be passed over (AMD APM vol. 3, 1.4; Intel SDM
//! vol. 2A, 2.1.5).

use super::bytes::{Bytes, Error, Prefixes};
use super::instruction::Register;
use crate::bus::Width;

/// A ModRM byte that names memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Bits 5:3.
    field: u8,
}

impl Memory {
    /// Reads the byte, and passes over the SIB byte and the displacement. One that names a register is not known here.
    pub(super) fn read(bytes: &mut Bytes<'_>, prefixes: &Prefixes) -> Result<Self, Error> {
        let modrm = bytes.next()?;
        let (kind, rm) = (modrm >> 6, modrm & 7);
        if kind == 3 {
            return Err(Error::Unknown);
        }
        let displacement = if prefixes.address() == Width::Word {
            match (kind, rm) {
                (0, 6) | (2, _) => 2,
                (0, _) => 0,
                _ => 1,
            }
        } else {
            let base = if rm == 4 { bytes.next()? & 7 } else { rm };
            match (kind, base) {
                (0, 5) | (2, _) => 4,
                (0, _) => 0,
                _ => 1,
            }
        };
        for _ in 0..displacement {
            bytes.next()?;
        }
        Ok(Self { field: modrm >> 3 & 7 })
    }

    /// The opcode extension that it is.
    pub(super) const fn extension(self) -> u8 {
        self.field
    }

    /// The general register that it names as an operand of this width.
    pub(super) const fn register(self, prefixes: &Prefixes, width: Width) -> Register {
        match (width, self.field) {
            // Without a REX byte the upper four are the second bytes of the first four.
            (Width::Byte, 4..) if !prefixes.has_rex => Register::High(self.field & 3),
            _ => Register::Low(self.field | prefixes.register()),
        }
    }
}
