//! A decoded instruction.

use super::bytes::{Repeat, Segment};
use crate::bus::Width;

/// An instruction that accesses memory which is a device's, or moves a string to or from a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Its bytes, at most [`super::MAX`].
    pub length: u8,
    /// The width of what is in memory.
    pub width: Width,
    /// What it does.
    pub operation: Operation,
    /// The segment register that a prefix names; not in long mode, unless it is FS or GS.
    pub segment: Option<Segment>,
    /// Width of addresses, and of the registers that count and point at strings.
    pub address: Width,
    pub(super) repeat: Repeat,
}

/// What an instruction does. "Memory" is the one operand that is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A register, of this width, becomes memory.
    Load(Register, Width, Extend),
    /// Memory becomes this.
    Store(Source),
    /// Memory becomes the result of it and this.
    Modify(Alu, Source),
    /// A register becomes the result of it and memory.
    Combine(Alu, Register),
    /// A register and memory become each other.
    Exchange(Register),
    /// STOS: memory at ES:rDI becomes rAX.
    StoreString,
    /// LODS: rAX becomes memory at rSI.
    LoadString,
    /// MOVS: memory at ES:rDI becomes memory at rSI.
    MoveString,
    /// INS: memory at ES:rDI becomes what the port in DX says.
    InString,
    /// OUTS: the port in DX is told memory at rSI.
    OutString,
}

/// A general register's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// From bit 0, of the register with this number (0 to 15).
    Low(u8),
    /// Bits 15:8 of the register with this number (0 to 3).
    High(u8),
}

/// How a value fills a register that is wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// With zeros.
    Zero,
    /// With its sign.
    Sign,
}

/// Where an operand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A register.
    Register(Register),
    /// The instruction, sign-extended.
    Immediate(u64),
}

/// An operation that sets the flags. The first eight are in the order of their opcodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alu {
    /// ADD.
    Add,
    /// OR.
    Or,
    /// ADC.
    Adc,
    /// SBB.
    Sbb,
    /// AND.
    And,
    /// SUB.
    Sub,
    /// XOR.
    Xor,
    /// CMP: a subtraction that is not stored.
    Cmp,
    /// TEST: an AND that is not stored.
    Test,
}

impl Alu {
    /// That of opcodes `8 * n` on.
    pub(super) const fn of(n: u8) -> Self {
        match n & 7 {
            0 => Self::Add,
            1 => Self::Or,
            2 => Self::Adc,
            3 => Self::Sbb,
            4 => Self::And,
            5 => Self::Sub,
            6 => Self::Xor,
            _ => Self::Cmp,
        }
    }

    /// Whether its result goes anywhere but to the flags.
    pub(super) const fn stores(self) -> bool {
        !matches!(self, Self::Cmp | Self::Test)
    }
}

impl Operation {
    /// Whether memory is read.
    #[must_use]
    pub const fn reads(&self) -> bool {
        !matches!(self, Self::Store(_) | Self::StoreString | Self::InString)
    }

    /// Whether memory is stored to. MOVS reads one place and stores to another.
    #[must_use]
    pub const fn stores(&self) -> bool {
        match self {
            Self::Store(_) | Self::Exchange(_) | Self::StoreString | Self::MoveString | Self::InString => true,
            Self::Modify(alu, _) => alu.stores(),
            Self::Load(..) | Self::Combine(..) | Self::LoadString | Self::OutString => false,
        }
    }
}

impl Instruction {
    /// Where a string's source is: the segment, and rSI.
    #[must_use]
    pub fn source(&self, si: u64) -> (Segment, u64) {
        (self.segment.unwrap_or(Segment::Ds), si & self.address.mask())
    }

    /// Where a string's destination is: always in ES.
    #[must_use]
    pub const fn destination(&self, di: u64) -> (Segment, u64) {
        (Segment::Es, di & self.address.mask())
    }
}
