//! Carrying a decoded instruction out, but for its accesses to memory and ports, which are the caller's.

use super::bytes::Repeat;
use super::instruction::{Alu, Extend, Instruction, Operation, Register, Source};
use crate::bus::Width;

/// The registers that an instruction may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// rAX, rCX, rDX, rBX, rSP, rBP, rSI, rDI, and R8 to R15: by number.
    pub general: [u64; 16],
    /// RFLAGS.
    pub flags: u64,
}

const RCX: usize = 1;
const RSI: usize = 6;
const RDI: usize = 7;

const CARRY: u64 = 1 << 0;
const PARITY: u64 = 1 << 2;
const ADJUST: u64 = 1 << 4;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const DOWN: u64 = 1 << 10;
const OVERFLOW: u64 = 1 << 11;

/// What an instruction led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it stores in memory, or tells a port: so many bits of it as [`Instruction::width`].
    pub stored: Option<u64>,
    /// Where the guest goes on.
    pub flow: Flow,
}

/// Where the guest goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// After the instruction.
    Next,
    /// At the same instruction: it is repeated.
    Same,
}

impl Registers {
    fn get(&self, register: Register) -> u64 {
        match register {
            Register::Low(n) => self.general[usize::from(n & 15)],
            Register::High(n) => self.general[usize::from(n & 3)] >> 8,
        }
    }

    /// A register of `width` becomes `value`: 8 and 16 bits leave the rest as it was, 32 clear it.
    fn set(&mut self, register: Register, width: Width, value: u64) {
        let (whole, mask, shift) = match register {
            Register::Low(n) => (&mut self.general[usize::from(n & 15)], width.mask(), 0),
            Register::High(n) => (&mut self.general[usize::from(n & 3)], 0xff, 8),
        };
        let kept = if width == Width::Double { 0 } else { *whole & !(mask << shift) };
        *whole = kept | (value & mask) << shift;
    }

    /// The result of `a` and `b`; sets the flags.
    pub(super) fn alu(&mut self, alu: Alu, a: u64, b: u64, width: Width) -> u64 {
        let (mask, sign) = (width.mask(), width.mask() ^ width.mask() >> 1);
        let (a, b) = (a & mask, b & mask);
        let carry_in = match alu {
            Alu::Adc | Alu::Sbb => self.flags & CARRY,
            _ => 0,
        };
        let (result, carry, overflow) = match alu {
            Alu::Add | Alu::Adc => {
                let sum = u128::from(a) + u128::from(b) + u128::from(carry_in);
                let result = sum as u64 & mask;
                (result, sum > u128::from(mask), (a ^ result) & (b ^ result) & sign != 0)
            }
            Alu::Sub | Alu::Sbb | Alu::Cmp => {
                let result = a.wrapping_sub(b).wrapping_sub(carry_in) & mask;
                (result, u128::from(a) < u128::from(b) + u128::from(carry_in), (a ^ b) & (a ^ result) & sign != 0)
            }
            Alu::And | Alu::Test => (a & b, false, false),
            Alu::Or => (a | b, false, false),
            Alu::Xor => (a ^ b, false, false),
        };
        // A carry out of bit 3. Logical operations leave the flag undefined; here, as on processors, it is clear.
        let adjust = match alu {
            Alu::Add | Alu::Adc | Alu::Sub | Alu::Sbb | Alu::Cmp => (a ^ b ^ result) & 0x10 != 0,
            Alu::And | Alu::Test | Alu::Or | Alu::Xor => false,
        };
        let set = |when: bool, flag: u64| if when { flag } else { 0 };
        self.flags &= !(CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW);
        self.flags |= set(carry, CARRY)
            | set((result as u8).count_ones().is_multiple_of(2), PARITY)
            | set(adjust, ADJUST)
            | set(result == 0, ZERO)
            | set(result & sign != 0, SIGN)
            | set(overflow, OVERFLOW);
        result
    }

    /// A string's pointer moves on.
    fn advance(&mut self, register: usize, instruction: &Instruction) {
        let (by, whole) = (instruction.width.bytes(), self.general[register]);
        let moved = if self.flags & DOWN != 0 { whole.wrapping_sub(by) } else { whole.wrapping_add(by) };
        self.set(Register::Low(register as u8), instruction.address, moved);
    }
}

impl Instruction {
    /// True if it is to be repeated no times.
    #[must_use]
    pub fn is_idle(&self, r: &Registers) -> bool {
        self.repeat == Repeat::Repeated && r.general[RCX] & self.address.mask() == 0
    }

    /// Does what the instruction does, once if it is repeated: registers change, and what it stores comes back.
    /// `loaded` is what was read from memory ([`Operation::reads`]) or came from the port; its upper bits do not
    /// matter. One that is repeated no times does nothing at all.
    #[must_use]
    pub fn run(&self, r: &mut Registers, loaded: u64) -> Step {
        let count = r.general[RCX] & self.address.mask();
        if self.is_idle(r) {
            return Step { stored: None, flow: Flow::Next };
        }
        let stored = self.operate(r, loaded & self.width.mask());
        let flow = match self.repeat {
            Repeat::Once => Flow::Next,
            Repeat::Repeated => {
                r.set(Register::Low(RCX as u8), self.address, count - 1);
                if count == 1 { Flow::Next } else { Flow::Same }
            }
        };
        Step { stored: stored.map(|stored| stored & self.width.mask()), flow }
    }

    fn operate(&self, r: &mut Registers, loaded: u64) -> Option<u64> {
        const RAX: Register = Register::Low(0);
        match self.operation {
            Operation::Load(register, width, extend) => {
                let unused = 64 - 8 * self.width.bytes();
                let value = match extend {
                    Extend::Zero => loaded,
                    Extend::Sign => (((loaded << unused) as i64) >> unused) as u64,
                };
                r.set(register, width, value);
                None
            }
            Operation::Store(source) => Some(value(r, source)),
            Operation::Modify(alu, source) => {
                let operand = value(r, source);
                let result = r.alu(alu, loaded, operand, self.width);
                alu.stores().then_some(result)
            }
            Operation::Combine(alu, register) => {
                let result = r.alu(alu, r.get(register), loaded, self.width);
                if alu.stores() {
                    r.set(register, self.width, result);
                }
                None
            }
            Operation::Exchange(register) => {
                let old = r.get(register);
                r.set(register, self.width, loaded);
                Some(old)
            }
            Operation::StoreString => {
                r.advance(RDI, self);
                Some(r.get(RAX))
            }
            Operation::LoadString => {
                r.advance(RSI, self);
                r.set(RAX, self.width, loaded);
                None
            }
            Operation::MoveString => {
                r.advance(RSI, self);
                r.advance(RDI, self);
                Some(loaded)
            }
            Operation::InString => {
                r.advance(RDI, self);
                Some(loaded)
            }
            Operation::OutString => {
                r.advance(RSI, self);
                Some(loaded)
            }
        }
    }
}

fn value(r: &Registers, source: Source) -> u64 {
    match source {
        Source::Register(register) => r.get(register),
        Source::Immediate(value) => value,
    }
}
