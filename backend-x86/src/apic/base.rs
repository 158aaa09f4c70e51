//! IA32_APIC_BASE (SDM volume 4): by which face a local APIC is used, if by any.

use super::events::Role;
use super::local::{Face, Local};
use super::{Apics, BASE};
use crate::bus::GeneralProtection;

/// Bits: the boot processor, x2APIC, enabled.
const BASE_BSP: u64 = 1 << 8;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLE: u64 = 1 << 11;

impl Local {
    /// IA32_APIC_BASE.
    #[must_use]
    pub fn base(&self) -> u64 {
        let mode = match self.face {
            Face::Off => 0,
            Face::Xapic => BASE_ENABLE,
            Face::X2apic => BASE_ENABLE | BASE_X2APIC,
        };
        BASE.0 | mode | if role(self.number) == Role::Boot { BASE_BSP } else { 0 }
    }

    /// The same is written. #GP for a transition that the SDM does not have, and for any other address.
    pub fn set_base(&mut self, apics: &Apics, value: u64) -> Result<(), GeneralProtection> {
        let seat = apics.seat(self.number).ok_or(GeneralProtection)?;
        let face = match value & (BASE_ENABLE | BASE_X2APIC) {
            0 => Face::Off,
            BASE_ENABLE => Face::Xapic,
            BASE_X2APIC => return Err(GeneralProtection),
            _ => Face::X2apic,
        };
        let fixed = (value ^ self.base()) & !(BASE_ENABLE | BASE_X2APIC) == 0;
        match (self.face, face) {
            _ if !fixed => Err(GeneralProtection),
            (Face::X2apic, Face::Xapic) | (Face::Off, Face::X2apic) => Err(GeneralProtection),
            (from, to) if from == to => Ok(()),
            (_, Face::Off) => {
                self.face = face;
                self.reset(seat);
                Ok(())
            }
            _ => {
                (self.face, self.command, self.shown) = (face, 0, 0);
                self.publish(seat);
                Ok(())
            }
        }
    }
}

const fn role(number: u16) -> Role {
    if number == 0 { Role::Boot } else { Role::Application }
}
