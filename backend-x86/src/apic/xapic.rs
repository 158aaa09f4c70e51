//! The memory-mapped face: registers of 32 bits at multiples of 16, to be used by aligned 32-bit accesses.

use hv_core::machine::Instant;

use super::local::{Face, Local, Outcome};
use super::registers::at;
use super::{Apics, BYTES, ILLEGAL_REGISTER};
use crate::bus::Width;

impl Local {
    /// True if the memory-mapped registers are there. Where they are not, neither is anything else.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.face == Face::Xapic
    }

    /// Reads `width` bytes at `offset`. Other accesses than of aligned 32 bits are undefined, and read as zero.
    pub fn read(&mut self, apics: &Apics, offset: u64, width: Width, now: Instant) -> u64 {
        let Some(seat) = apics.seat(self.number).filter(|_| self.is_mapped()) else { return 0 };
        match register(offset, width) {
            Some(at::EOI) | None => 0,
            Some(register) => match self.get(seat, register, now) {
                Some(value) => value.into(),
                None => {
                    self.error(seat, ILLEGAL_REGISTER);
                    0
                }
            },
        }
    }

    /// Writes `width` bytes at `offset`. Registers that can only be read stay as they are.
    pub fn write(&mut self, apics: &Apics, offset: u64, width: Width, value: u64, now: Instant) -> Outcome {
        let Some(register) = register(offset, width).filter(|_| self.is_mapped()) else { return Outcome::NOTHING };
        if let Some(outcome) = self.set(apics, register, value as u32, now) {
            return outcome;
        }
        if let Some(seat) = apics.seat(self.number)
            && self.get(seat, register, now).is_none()
        {
            self.error(seat, ILLEGAL_REGISTER);
        }
        Outcome::NOTHING
    }
}

fn register(offset: u64, width: Width) -> Option<u32> {
    (offset < BYTES && offset & 15 == 0 && width == Width::Double).then_some(offset as u32 >> 4)
}
