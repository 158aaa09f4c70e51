//! From opcodes to what they do (AMD APM vol. 3, appendix A; Intel SDM vol. 2D, appendix A).

use super::bytes::{Bytes, Error, Mode, Prefixes, Repeat};
use super::instruction::{Alu, Extend, Instruction, Operation, Register, Source};
use super::operand::Memory;
use crate::bus::Width;

/// rAX.
const ACCUMULATOR: Register = Register::Low(0);

/// Decodes the instruction at the beginning of `bytes`, which accessed a device's memory, or moves a string to or from
/// a port. [`Error::Unknown`] of one that hardware has executed is an instruction that devices are not accessed with
/// here; or the guest has written over it since.
pub fn mmio(bytes: &[u8], mode: Mode) -> Result<Instruction, Error> {
    let mut bytes = Bytes::new(bytes);
    let (prefixes, opcode) = Prefixes::read(&mut bytes, mode)?;
    let (operation, width) = match opcode {
        0x0f => extended(&mut bytes, &prefixes)?,
        0x00..=0x3f => arithmetic(&mut bytes, &prefixes, opcode)?,
        _ => single(&mut bytes, &prefixes, opcode)?,
    };
    // LOCK is for what reads and stores in one.
    let locks =
        matches!(operation, Operation::Modify(alu, _) if alu.stores()) || matches!(operation, Operation::Exchange(_));
    if prefixes.lock && !locks {
        return Err(Error::Unknown);
    }
    // On all but strings it means nothing.
    let repeat = if is_string(&operation) { prefixes.repeat } else { Repeat::Once };
    let (segment, address) = (prefixes.segment, prefixes.address());
    Ok(Instruction { length: bytes.read(), width, operation, segment, address, repeat })
}

fn is_string(operation: &Operation) -> bool {
    match operation {
        Operation::StoreString | Operation::LoadString | Operation::MoveString => true,
        Operation::InString | Operation::OutString => true,
        Operation::Load(..) | Operation::Store(_) | Operation::Modify(..) => false,
        Operation::Combine(..) | Operation::Exchange(_) => false,
    }
}

/// Bit 0 of most opcodes: a byte, or what the prefixes say.
fn width(prefixes: &Prefixes, opcode: u8) -> Width {
    if opcode & 1 == 0 { Width::Byte } else { prefixes.operand() }
}

/// An immediate operand of this width: no more than 4 bytes of it are in the instruction.
fn immediate(bytes: &mut Bytes<'_>, width: Width) -> Result<Source, Error> {
    Ok(Source::Immediate(bytes.signed(width.bytes().min(4))?))
}

/// Opcodes 00h to 3Fh: eight operations, in four forms each that name memory.
fn arithmetic(bytes: &mut Bytes<'_>, prefixes: &Prefixes, opcode: u8) -> Result<(Operation, Width), Error> {
    if opcode & 7 > 3 {
        return Err(Error::Unknown);
    }
    let (width, alu) = (width(prefixes, opcode), Alu::of(opcode >> 3));
    let register = Memory::read(bytes, prefixes)?.register(prefixes, width);
    let operation = match opcode & 2 {
        0 => Operation::Modify(alu, Source::Register(register)),
        _ => Operation::Combine(alu, register),
    };
    Ok((operation, width))
}

/// The other opcodes of one byte.
fn single(bytes: &mut Bytes<'_>, prefixes: &Prefixes, opcode: u8) -> Result<(Operation, Width), Error> {
    let width = width(prefixes, opcode);
    let operation = match opcode {
        // MOVSXD; elsewhere the byte is another instruction. Without REX.W it is a MOV.
        0x63 if prefixes.mode() == Mode::Bits64 => {
            let into = prefixes.operand();
            let from = if into == Width::Word { Width::Word } else { Width::Double };
            let register = Memory::read(bytes, prefixes)?.register(prefixes, into);
            return Ok((Operation::Load(register, into, Extend::Sign), from));
        }
        // Ports have no more than 32 bits.
        0x6c..=0x6f => {
            let operation = if opcode < 0x6e { Operation::InString } else { Operation::OutString };
            return Ok((operation, if width == Width::Quad { Width::Double } else { width }));
        }
        // 82h is 80h once more, except in long mode.
        0x80..=0x83 if opcode != 0x82 || prefixes.mode() != Mode::Bits64 => {
            let alu = Alu::of(Memory::read(bytes, prefixes)?.extension());
            let from = if opcode == 0x81 { width } else { Width::Byte };
            Operation::Modify(alu, immediate(bytes, from)?)
        }
        0x84 | 0x85 => {
            let register = Memory::read(bytes, prefixes)?.register(prefixes, width);
            Operation::Modify(Alu::Test, Source::Register(register))
        }
        0x86 | 0x87 => Operation::Exchange(Memory::read(bytes, prefixes)?.register(prefixes, width)),
        0x88 | 0x89 => Operation::Store(Source::Register(Memory::read(bytes, prefixes)?.register(prefixes, width))),
        0x8a | 0x8b => {
            let register = Memory::read(bytes, prefixes)?.register(prefixes, width);
            Operation::Load(register, width, Extend::Zero)
        }
        // The address stands in the instruction.
        0xa0..=0xa3 => {
            bytes.signed(prefixes.address().bytes())?;
            match opcode & 2 {
                0 => Operation::Load(ACCUMULATOR, width, Extend::Zero),
                _ => Operation::Store(Source::Register(ACCUMULATOR)),
            }
        }
        0xa4 | 0xa5 => Operation::MoveString,
        0xaa | 0xab => Operation::StoreString,
        0xac | 0xad => Operation::LoadString,
        0xc6 | 0xc7 => match Memory::read(bytes, prefixes)?.extension() {
            0 => Operation::Store(immediate(bytes, width)?),
            _ => return Err(Error::Unknown),
        },
        0xf6 | 0xf7 => match Memory::read(bytes, prefixes)?.extension() {
            // The second is the first once more, undocumented by one vendor.
            0 | 1 => Operation::Modify(Alu::Test, immediate(bytes, width)?),
            _ => return Err(Error::Unknown),
        },
        _ => return Err(Error::Unknown),
    };
    Ok((operation, width))
}

/// Opcodes of two bytes: MOVZX and MOVSX.
fn extended(bytes: &mut Bytes<'_>, prefixes: &Prefixes) -> Result<(Operation, Width), Error> {
    let opcode = bytes.next()?;
    let extend = match opcode {
        0xb6 | 0xb7 => Extend::Zero,
        0xbe | 0xbf => Extend::Sign,
        _ => return Err(Error::Unknown),
    };
    let into = prefixes.operand();
    let from = if opcode & 1 == 0 { Width::Byte } else { Width::Word };
    let register = Memory::read(bytes, prefixes)?.register(prefixes, into);
    Ok((Operation::Load(register, into, extend), from))
}
