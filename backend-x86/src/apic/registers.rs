//! The registers, by number: a memory-mapped one's offset is 16 times that, a model-specific one's number is 0x800 more.

use hv_core::machine::Instant;

use super::local::{Face, LVT_MASKED, Local, Outcome};
use super::message::{Delivery, Destination, Message, Trigger, logical_id};
use super::seat::Seat;
use super::timer::Mode;
use super::{Apics, SEND_ILLEGAL};

/// Numbers of registers.
pub mod at {
    pub const ID: u32 = 0x02;
    pub const VERSION: u32 = 0x03;
    pub const TPR: u32 = 0x08;
    pub const PPR: u32 = 0x0a;
    pub const EOI: u32 = 0x0b;
    pub const LDR: u32 = 0x0d;
    pub const DFR: u32 = 0x0e;
    pub const SVR: u32 = 0x0f;
    pub const ISR: u32 = 0x10;
    pub const TMR: u32 = 0x18;
    pub const IRR: u32 = 0x20;
    pub const ESR: u32 = 0x28;
    pub const ICR: u32 = 0x30;
    pub const ICR_HIGH: u32 = 0x31;
    pub const LVT: u32 = 0x32;
    pub const LVT_LAST: u32 = 0x37;
    pub const INITIAL: u32 = 0x38;
    pub const CURRENT: u32 = 0x39;
    pub const DIVIDE: u32 = 0x3e;
    pub const SELF: u32 = 0x3f;
}

/// Version 0x14 with six local vectors; the end of a level interrupt is always broadcast.
const VERSION: u32 = 0x14 | 5 << 16;
/// Spurious vector, software enable.
pub const SVR_BITS: u32 = 0x1ff;
pub const SVR_ENABLE: u32 = 1 << 8;
/// Divide configuration.
pub const DIVIDE_BITS: u32 = 0b1011;
/// The command register's lower half: all but the delivery status, which is always idle.
pub const ICR_BITS: u32 = 0x000c_cfff;
/// What can be written to local vectors: timer, thermal, performance, LINT0, LINT1, error.
pub const LVT_BITS: [u32; 6] = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];

impl Local {
    /// Reads a register; `None` if there is none that can be read.
    pub(super) fn get(&self, seat: &Seat, register: u32, now: Instant) -> Option<u32> {
        let memory = self.face == Face::Xapic;
        Some(match register {
            at::ID if memory => u32::from(self.number) << 24,
            at::ID => self.number.into(),
            at::VERSION => VERSION,
            at::TPR => self.tpr.into(),
            at::PPR => self.ppr().into(),
            at::LDR if memory => self.ldr,
            at::LDR => logical_id(self.number),
            at::DFR if memory => self.dfr,
            at::SVR => self.svr,
            at::ISR..at::TMR => self.in_service[register as usize & 7],
            at::TMR..at::IRR => seat.levels(register as usize & 7),
            at::IRR..at::ESR => seat.requests(register as usize & 7),
            at::ESR => self.shown,
            at::ICR => self.command as u32,
            at::ICR_HIGH if memory => (self.command >> 32) as u32,
            at::LVT..=at::LVT_LAST => self.lvt[(register - at::LVT) as usize],
            at::INITIAL => self.timer.initial(),
            at::CURRENT => self.timer.current(now),
            at::DIVIDE => self.timer.divide(),
            _ => return None,
        })
    }

    /// Writes a register, bits that it has not being ignored; `None` if there is none that can be written.
    pub(super) fn set(&mut self, apics: &Apics, register: u32, value: u32, now: Instant) -> Option<Outcome> {
        let seat = apics.seat(self.number)?;
        let memory = self.face == Face::Xapic;
        match register {
            at::TPR => self.set_tpr(value as u8),
            at::EOI => return Some(self.end(seat)),
            at::LDR if memory => self.ldr = value & 0xff00_0000,
            at::DFR if memory => self.dfr = value | 0x0fff_ffff,
            at::SVR => {
                self.svr = value & SVR_BITS;
                if value & SVR_ENABLE == 0 {
                    self.lvt.iter_mut().for_each(|lvt| *lvt |= LVT_MASKED);
                }
            }
            at::ESR => self.shown = core::mem::take(&mut self.found),
            at::ICR => {
                let command = self.command & !u64::from(u32::MAX) | u64::from(value & ICR_BITS);
                return Some(self.command(apics, command));
            }
            at::ICR_HIGH if memory => {
                self.command = self.command & u64::from(u32::MAX) | u64::from(value & 0xff00_0000) << 32;
            }
            at::LVT..=at::LVT_LAST => {
                let n = (register - at::LVT) as usize;
                let masked = if self.svr & SVR_ENABLE == 0 { LVT_MASKED } else { 0 };
                if register == at::LVT && self.lvt[n] & LVT_MASKED != 0 {
                    // What ran out while it was masked is not heard of later.
                    self.timer.expire(now);
                }
                self.lvt[n] = value & LVT_BITS[n] | masked;
                if register == at::LVT {
                    self.timer.set_mode(Mode::of(self.lvt[n]));
                }
            }
            at::INITIAL => self.timer.start(value, now),
            at::DIVIDE => self.timer.set_divide(value, now),
            _ => return None,
        }
        if matches!(register, at::LDR | at::DFR | at::SVR) {
            self.publish(seat);
        }
        Some(Outcome::NOTHING)
    }

    /// The command register is written, all of it: sends the message that it describes.
    pub(super) fn command(&mut self, apics: &Apics, command: u64) -> Outcome {
        const LEVEL: u32 = 1 << 14;
        const LOGICAL: u32 = 1 << 11;
        self.command = command;
        let (low, id) = (command as u32, (command >> 32) as u32);
        let to = match low >> 18 & 3 {
            0 => match (self.face, low & LOGICAL != 0) {
                (Face::X2apic, false) => Destination::Physical32(id),
                (Face::X2apic, true) => Destination::Logical32(id),
                (_, false) => Destination::Physical8((id >> 24) as u8),
                (_, true) => Destination::Logical8((id >> 24) as u8),
            },
            1 => Destination::Itself,
            2 => Destination::All,
            _ => Destination::Others,
        };
        // Between processors there are no levels: the trigger mode counts for INIT only, whose level de-assert, of the
        // days before xAPIC, does nothing.
        let message = Message { delivery: Delivery::from_bits(low), vector: low as u8, trigger: Trigger::Edge };
        let fits = match message.delivery {
            Delivery::Fixed => true,
            Delivery::Init if low & LEVEL == 0 => false,
            Delivery::None => false,
            Delivery::Lowest | Delivery::Nmi | Delivery::Init | Delivery::StartUp => {
                !matches!(to, Destination::Itself | Destination::All)
            }
        };
        if message.is_illegal() {
            if let Some(seat) = apics.seat(self.number) {
                self.error(seat, SEND_ILLEGAL);
            }
            return Outcome::NOTHING;
        }
        if !fits {
            return Outcome::NOTHING;
        }
        Outcome { rouse: apics.send(Some(self.number), to, message), ended: None }
    }
}
