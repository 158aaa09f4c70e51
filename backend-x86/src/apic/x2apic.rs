//! The face by model-specific registers: what is not there, or not as the register wants it, is a #GP.

use hv_core::machine::Instant;

use super::local::{Face, Local, Outcome};
use super::message::{Delivery, Destination, Message, Trigger};
use super::registers::{DIVIDE_BITS, ICR_BITS, LVT_BITS, SVR_BITS, at};
use super::{Apics, SEND_ILLEGAL};
use crate::bus::GeneralProtection;

/// The first register's MSR.
pub const FIRST_MSR: u32 = 0x800;
/// The last one that can be there.
pub const LAST_MSR: u32 = 0x8ff;

impl Local {
    /// RDMSR of [`FIRST_MSR`] to [`LAST_MSR`].
    pub fn read_msr(&self, apics: &Apics, msr: u32, now: Instant) -> Result<u64, GeneralProtection> {
        let (register, seat) = (self.register(msr)?, apics.seat(self.number).ok_or(GeneralProtection)?);
        match register {
            at::ICR => Ok(self.command),
            _ => self.get(seat, register, now).map(u64::from).ok_or(GeneralProtection),
        }
    }

    /// WRMSR of the same.
    #[inline]
    pub fn write_msr(
        &mut self,
        apics: &Apics,
        msr: u32,
        value: u64,
        now: Instant,
    ) -> Result<Outcome, GeneralProtection> {
        let register = self.register(msr)?;
        if value & !writable(register) != 0 {
            return Err(GeneralProtection);
        }
        match register {
            at::ICR => Ok(self.command(apics, value)),
            at::SELF => Ok(self.send_to_self(apics, value as u8)),
            _ => self.set(apics, register, value as u32, now).ok_or(GeneralProtection),
        }
    }

    fn register(&self, msr: u32) -> Result<u32, GeneralProtection> {
        let number = msr.checked_sub(FIRST_MSR).filter(|_| msr <= LAST_MSR && self.face == Face::X2apic);
        number.ok_or(GeneralProtection)
    }

    /// The SELF IPI register.
    fn send_to_self(&mut self, apics: &Apics, vector: u8) -> Outcome {
        let message = Message { delivery: Delivery::Fixed, vector, trigger: Trigger::Edge };
        if message.is_illegal() {
            if let Some(seat) = apics.seat(self.number) {
                self.error(seat, SEND_ILLEGAL);
            }
            return Outcome::NOTHING;
        }
        Outcome { rouse: apics.send(Some(self.number), Destination::Itself, message), ended: None }
    }
}

/// The bits of a register that need not be zero when it is written.
const fn writable(register: u32) -> u64 {
    match register {
        at::TPR | at::SELF => 0xff,
        at::SVR => SVR_BITS as u64,
        at::ICR => (u32::MAX as u64) << 32 | ICR_BITS as u64,
        at::LVT..=at::LVT_LAST => LVT_BITS[(register - at::LVT) as usize] as u64,
        at::INITIAL => u32::MAX as u64,
        at::DIVIDE => DIVIDE_BITS as u64,
        // EOI and ESR are written with zero only. What cannot be written at all is found out later.
        _ => 0,
    }
}
