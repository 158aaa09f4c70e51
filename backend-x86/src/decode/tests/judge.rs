//! The opinion of another library, on all that it and this one accept.

use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic, OpKind};

use super::super::bytes::Repeat;
use super::super::{
    Alu, Error, Extend, Instruction, Mode, Operation, Register, Segment, Source, Trapped, length, mmio,
};
use super::{MODES, Numbers};
use crate::bus::Width;

fn bits(mode: Mode) -> u32 {
    match mode {
        Mode::Bits16 => 16,
        Mode::Bits32 => 32,
        Mode::Bits64 => 64,
    }
}

/// The other library's instruction.
fn theirs(bytes: &[u8], mode: Mode) -> iced_x86::Instruction {
    Decoder::new(bits(mode), bytes, DecoderOptions::NONE).decode()
}

fn mnemonics(operation: &Operation) -> &'static [Mnemonic] {
    match operation {
        Operation::Load(_, _, Extend::Sign) => &[Mnemonic::Movsx, Mnemonic::Movsxd],
        Operation::Load(..) => &[Mnemonic::Mov, Mnemonic::Movzx],
        Operation::Store(_) => &[Mnemonic::Mov],
        Operation::Modify(alu, _) | Operation::Combine(alu, _) => match alu {
            Alu::Add => &[Mnemonic::Add],
            Alu::Or => &[Mnemonic::Or],
            Alu::Adc => &[Mnemonic::Adc],
            Alu::Sbb => &[Mnemonic::Sbb],
            Alu::And => &[Mnemonic::And],
            Alu::Sub => &[Mnemonic::Sub],
            Alu::Xor => &[Mnemonic::Xor],
            Alu::Cmp => &[Mnemonic::Cmp],
            Alu::Test => &[Mnemonic::Test],
        },
        Operation::Exchange(_) => &[Mnemonic::Xchg],
        Operation::StoreString => &[Mnemonic::Stosb, Mnemonic::Stosw, Mnemonic::Stosd, Mnemonic::Stosq],
        Operation::LoadString => &[Mnemonic::Lodsb, Mnemonic::Lodsw, Mnemonic::Lodsd, Mnemonic::Lodsq],
        Operation::MoveString => &[Mnemonic::Movsb, Mnemonic::Movsw, Mnemonic::Movsd, Mnemonic::Movsq],
        Operation::InString => &[Mnemonic::Insb, Mnemonic::Insw, Mnemonic::Insd],
        Operation::OutString => &[Mnemonic::Outsb, Mnemonic::Outsw, Mnemonic::Outsd],
    }
}

/// A register's number and width as the other library has them.
fn register(register: Register, width: Width) -> (usize, bool, u64) {
    match register {
        Register::Low(n) => (usize::from(n), false, width.bytes()),
        Register::High(n) => (usize::from(n), true, 1),
    }
}

fn their_register(of: iced_x86::Register) -> (usize, bool, u64) {
    use iced_x86::Register as R;
    let high = matches!(of, R::AH | R::CH | R::DH | R::BH);
    (of.full_register().number(), high, of.size() as u64)
}

/// The operand that is not memory, if it is a general register.
fn other_register(theirs: &iced_x86::Instruction) -> Option<iced_x86::Register> {
    let register = |n| (theirs.op_kind(n) == OpKind::Register).then(|| theirs.op_register(n));
    (0..theirs.op_count()).find_map(register).filter(|r| r.is_gpr())
}

fn segment(of: iced_x86::Register) -> Segment {
    use iced_x86::Register as R;
    match of {
        R::ES => Segment::Es,
        R::CS => Segment::Cs,
        R::SS => Segment::Ss,
        R::DS => Segment::Ds,
        R::FS => Segment::Fs,
        R::GS => Segment::Gs,
        other => panic!("{other:?} is no segment"),
    }
}

fn agree(ours: &Instruction, theirs: &iced_x86::Instruction, bytes: &[u8], mode: Mode) {
    let say = format!("{bytes:02x?} in {mode:?}: {ours:?}, {theirs:?}");
    assert_eq!(usize::from(ours.length), theirs.len(), "{say}");
    assert!(mnemonics(&ours.operation).contains(&theirs.mnemonic()), "{say}");
    assert_eq!(ours.width.bytes() as usize, theirs.memory_size().size(), "{say}");
    let named = match ours.operation {
        Operation::Load(named, width, _) => Some((named, width)),
        Operation::Store(Source::Register(named)) | Operation::Modify(_, Source::Register(named)) => {
            Some((named, ours.width))
        }
        Operation::Combine(_, named) | Operation::Exchange(named) => Some((named, ours.width)),
        _ => None,
    };
    if let Some((named, width)) = named {
        assert_eq!(Some(register(named, width)), other_register(theirs).map(their_register), "{say}");
    }
    if let Operation::Store(Source::Immediate(value)) | Operation::Modify(_, Source::Immediate(value)) = ours.operation
    {
        assert_eq!(value & ours.width.mask(), theirs.immediate(1) & ours.width.mask(), "{say}");
    }
    if theirs.is_string_instruction() {
        let repeated = theirs.has_rep_prefix() || theirs.has_repne_prefix();
        assert_eq!(ours.repeat == Repeat::Repeated, repeated, "{say}");
        let address = match theirs.op0_kind().max(theirs.op1_kind()) {
            OpKind::MemorySegSI | OpKind::MemoryESDI => Width::Word,
            OpKind::MemorySegESI | OpKind::MemoryESEDI => Width::Double,
            _ => Width::Quad,
        };
        if !matches!(ours.operation, Operation::InString | Operation::StoreString) {
            let segment = match segment(theirs.memory_segment()) {
                // Long mode has one of all but two.
                Segment::Es | Segment::Cs | Segment::Ss if mode == Mode::Bits64 => Segment::Ds,
                other => other,
            };
            assert_eq!(ours.source(0).0, segment, "{say}");
        }
        assert_eq!(ours.address, address, "{say}");
    }
}

/// Whether it is one that has to be known: the same mnemonics, with memory and at most general registers.
fn has_to_be_known(theirs: &iced_x86::Instruction) -> bool {
    const ALL: [Operation; 20] = {
        const R: Register = Register::Low(0);
        [
            Operation::Load(R, Width::Byte, Extend::Sign),
            Operation::Load(R, Width::Byte, Extend::Zero),
            Operation::Store(Source::Register(R)),
            Operation::Exchange(R),
            Operation::Combine(Alu::Add, R),
            Operation::Combine(Alu::Or, R),
            Operation::Combine(Alu::Adc, R),
            Operation::Combine(Alu::Sbb, R),
            Operation::Combine(Alu::And, R),
            Operation::Combine(Alu::Sub, R),
            Operation::Combine(Alu::Xor, R),
            Operation::Combine(Alu::Cmp, R),
            Operation::Combine(Alu::Test, R),
            Operation::StoreString,
            Operation::LoadString,
            Operation::MoveString,
            Operation::InString,
            Operation::OutString,
            Operation::Store(Source::Immediate(0)),
            Operation::Modify(Alu::Add, Source::Immediate(0)),
        ]
    };
    let kinds = || (0..theirs.op_count()).map(|n| (theirs.op_kind(n), theirs.op_register(n)));
    let general = kinds().all(|(kind, r)| kind != OpKind::Register || r.is_gpr() || theirs.is_string_instruction());
    let string = kinds().any(|(kind, _)| kind >= OpKind::MemorySegSI && kind <= OpKind::MemoryESRDI);
    let memory = string || kinds().any(|(kind, _)| kind == OpKind::Memory);
    // Movsd is a vector's name as well; strings that are compared are not known.
    let vector = theirs.is_string_instruction() != string;
    let compared = matches!(theirs.mnemonic(), Mnemonic::Cmpsb | Mnemonic::Cmpsd | Mnemonic::Cmpsw | Mnemonic::Cmpsq);
    let named = ALL.iter().any(|operation| mnemonics(operation).contains(&theirs.mnemonic()));
    named && general && memory && !vector && !compared
}

#[test]
fn the_judge_agrees_with_every_answer() {
    let mut numbers = Numbers(7);
    let (mut known, mut unknown) = (0, 0);
    for n in 0..400_000_u32 {
        let mut bytes = [0_u8; 24];
        bytes.fill_with(|| numbers.next() as u8);
        let prefixes = numbers.next() as usize % 5;
        let choice = [0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x40, 0x44, 0x48, 0x4f];
        for byte in bytes.iter_mut().take(prefixes) {
            *byte = numbers.of(&choice);
        }
        // Every opcode in turn, of one byte and of two.
        let two = n % 4 == 0;
        if two {
            bytes[prefixes] = 0x0f;
        }
        bytes[prefixes + usize::from(two)] = (n / 4) as u8;
        for mode in MODES {
            let theirs = theirs(&bytes, mode);
            match mmio(&bytes, mode) {
                Ok(ours) => {
                    known += 1;
                    agree(&ours, &theirs, &bytes, mode);
                }
                Err(Error::Unknown) => {
                    unknown += 1;
                    assert!(!has_to_be_known(&theirs), "{bytes:02x?} in {mode:?} is {theirs:?}");
                }
                Err(error) => assert!(theirs.is_invalid(), "{error:?}, {bytes:02x?} in {mode:?} is {theirs:?}"),
            }
        }
    }
    assert!(known > 80_000 && unknown > 80_000, "{known} were known and {unknown} were not");
}

#[test]
fn the_judge_agrees_about_what_is_trapped() {
    let trapped = [
        (Trapped::Cpuid, &[0x0f, 0xa2][..], Code::Cpuid),
        (Trapped::Hlt, &[0xf4], Code::Hlt),
        (Trapped::Invd, &[0x0f, 0x08], Code::Invd),
        (Trapped::Pause, &[0xf3, 0x90], Code::Pause),
        (Trapped::Rdmsr, &[0x0f, 0x32], Code::Rdmsr),
        (Trapped::Vmmcall, &[0x0f, 0x01, 0xd9], Code::Vmmcall),
        (Trapped::Wbinvd, &[0x0f, 0x09], Code::Wbinvd),
        (Trapped::Wrmsr, &[0x0f, 0x30], Code::Wrmsr),
        (Trapped::Xsetbv, &[0x0f, 0x01, 0xd1], Code::Xsetbv),
    ];
    for mode in MODES {
        for (what, bytes, code) in trapped {
            assert_eq!(theirs(bytes, mode).code(), code);
            for prefix in [&[][..], &[0x2e], &[0x67, 0x65]] {
                let all: Vec<u8> = [prefix, bytes, &[0xcc]].concat();
                assert_eq!(length(&all, mode, what).map(usize::from), Ok(theirs(&all, mode).len()), "{what:?}");
                for cut in 0..prefix.len() + bytes.len() {
                    assert_eq!(length(&all[..cut], mode, what), Err(Error::Short), "{what:?}");
                }
            }
            for (other, bytes, _) in trapped.into_iter().filter(|(other, ..)| *other != what) {
                // An emulator was seen to call the one the other.
                let alike = (what, other) == (Trapped::Wbinvd, Trapped::Invd);
                let expected = if alike { Ok(2) } else { Err(Error::Unknown) };
                assert_eq!(length(bytes, mode, what), expected, "{other:?} is not {what:?}");
            }
        }
    }
}
