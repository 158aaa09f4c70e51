//! What instructions do, and that no bytes whatever lead anywhere else. `judge.rs` has another library's opinion.

mod judge;
mod processor;

use super::{
    Alu, Error, Extend, Flow, MAX, Mode, Operation, Register, Registers, Segment, Source, Trapped, length, mmio, to_cr8,
};
use crate::bus::Width;

const MODES: [Mode; 3] = [Mode::Bits16, Mode::Bits32, Mode::Bits64];

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 29
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.next() as usize % choice.len()]
    }
}

#[test]
fn a_move_to_cr8_names_its_register() {
    let of = |bytes: &[u8], mode| to_cr8(bytes, mode);
    assert_eq!(of(&[0x44, 0x0f, 0x22, 0xc0, 0xcc], Mode::Bits64), Ok((4, 0)), "mov %rax,%cr8");
    assert_eq!(of(&[0x66, 0x45, 0x0f, 0x22, 0x07], Mode::Bits64), Ok((5, 15)), "%r15, as if it were memory");
    assert_eq!(of(&[0xf0, 0x0f, 0x22, 0xc3], Mode::Bits32), Ok((4, 3)), "lock mov %ebx,%cr0");
    for (bytes, mode) in [
        (&[0x0f, 0x22, 0xc0][..], Mode::Bits64),
        (&[0x44, 0x0f, 0x22, 0xc8], Mode::Bits64),
        (&[0x44, 0x0f, 0x20, 0xc0], Mode::Bits64),
        (&[0x44, 0x0f, 0x22, 0xc0], Mode::Bits32),
    ] {
        assert_eq!(of(bytes, mode), Err(Error::Unknown), "{bytes:x?}");
    }
    assert_eq!(of(&[0x44, 0x0f, 0x22], Mode::Bits64), Err(Error::Short));
}

#[test]
fn the_forms_that_linux_uses_for_devices() {
    let low = Register::Low;
    let of = |bytes: &[u8]| {
        let found = mmio(bytes, Mode::Bits64).unwrap();
        assert_eq!(usize::from(found.length), bytes.len(), "{bytes:x?}");
        (found.operation, found.width)
    };
    let load = |n, width| Operation::Load(low(n), width, Extend::Zero);
    // mov 0x20(%rax),%ecx: an APIC register is read; mov %esi,(%rdi): one is written.
    assert_eq!(of(&[0x8b, 0x48, 0x20]), (load(1, Width::Double), Width::Double));
    assert_eq!(of(&[0x89, 0x37]), (Operation::Store(Source::Register(low(6))), Width::Double));
    // movl $0,0xffffffffff5fb0b0: end of interrupt.
    let eoi = [0xc7, 0x04, 0x25, 0xb0, 0xb0, 0x5f, 0xff, 0, 0, 0, 0];
    assert_eq!(of(&eoi), (Operation::Store(Source::Immediate(0)), Width::Double));
    // mov (%r11),%r10; mov %r9b,disp(%rip); movzbl (%rax),%edx; movslq (%rdi),%rax.
    assert_eq!(of(&[0x4d, 0x8b, 0x13]), (load(10, Width::Quad), Width::Quad));
    assert_eq!(of(&[0x44, 0x88, 0x0d, 1, 2, 3, 4]), (Operation::Store(Source::Register(low(9))), Width::Byte));
    assert_eq!(of(&[0x0f, 0xb6, 0x10]), (load(2, Width::Double), Width::Byte));
    assert_eq!(of(&[0x48, 0x63, 0x07]), (Operation::Load(low(0), Width::Quad, Extend::Sign), Width::Double));
    // mov %ah,(%rax), and with a REX byte mov %spl,(%rax).
    assert_eq!(of(&[0x88, 0x20]), (Operation::Store(Source::Register(Register::High(0))), Width::Byte));
    assert_eq!(of(&[0x40, 0x88, 0x20]), (Operation::Store(Source::Register(low(4))), Width::Byte));
    // lock orl $-128,(%rax); cmpw %cx,(%rax) and the other way round; xchg %eax,(%rbx).
    let wide = Operation::Modify(Alu::Or, Source::Immediate(0_u64.wrapping_sub(128)));
    assert_eq!(of(&[0xf0, 0x83, 0x08, 0x80]), (wide, Width::Double));
    assert_eq!(of(&[0x66, 0x39, 0x08]), (Operation::Modify(Alu::Cmp, Source::Register(low(1))), Width::Word));
    assert_eq!(of(&[0x66, 0x3b, 0x08]), (Operation::Combine(Alu::Cmp, low(1)), Width::Word));
    assert_eq!(of(&[0x87, 0x03]), (Operation::Exchange(low(0)), Width::Double));
    // rep movsl, as memcpy_fromio has it; rep outsb.
    assert_eq!(of(&[0xf3, 0xa5]), (Operation::MoveString, Width::Double));
    assert_eq!(of(&[0xf3, 0x6e]), (Operation::OutString, Width::Byte));
}

#[test]
fn a_mode_and_its_prefixes_decide_widths() {
    let width = |bytes: &[u8], mode| mmio(bytes, mode).map(|found| (found.width, found.address, found.length)).unwrap();
    assert_eq!(width(&[0x8b, 0x47, 0x10], Mode::Bits16), (Width::Word, Width::Word, 3));
    assert_eq!(width(&[0x66, 0x67, 0x8b, 0x04, 0x10], Mode::Bits16), (Width::Double, Width::Double, 5));
    assert_eq!(width(&[0x67, 0x8b, 0x06, 1, 2], Mode::Bits32), (Width::Double, Width::Word, 5));
    assert_eq!(width(&[0xa1, 1, 2, 3, 4], Mode::Bits32), (Width::Double, Width::Double, 5));
    assert_eq!(width(&[0xa1, 1, 2, 3, 4, 5, 6, 7, 8], Mode::Bits64), (Width::Double, Width::Quad, 9));
    // A REX byte that is not the last before the opcode counts for nothing, and is an instruction elsewhere.
    assert_eq!(width(&[0x48, 0x66, 0x89, 0x07], Mode::Bits64), (Width::Word, Width::Quad, 4));
    assert_eq!(mmio(&[0x48, 0x89, 0x07], Mode::Bits32), Err(Error::Unknown));
    let fs = mmio(&[0x64, 0x3e, 0xa4], Mode::Bits64).unwrap();
    assert_eq!((fs.source(1 << 40), fs.destination(8)), ((Segment::Fs, 1 << 40), (Segment::Es, 8)));
    let narrow = mmio(&[0x67, 0xa4], Mode::Bits64).unwrap();
    assert_eq!(narrow.source(1 << 40 | 5), (Segment::Ds, 5));
}

#[test]
fn what_is_not_known_is_refused() {
    for (bytes, why) in [
        (&[0x89, 0xc0][..], "registers only"),
        (&[0xf0, 0x89, 0x07], "LOCK where it may not be"),
        (&[0xf0, 0x39, 0x07], "LOCK of a comparison"),
        (&[0xc7, 0x4f, 0, 0, 0, 0, 0], "an extension that is none"),
        (&[0x82, 0x07, 0], "gone in long mode"),
        (&[0x0f, 0xb0, 0x07], "CMPXCHG"),
        (&[0x0f, 0x28, 0x07], "a vector"),
        (&[0xc5, 0xfc, 0x28, 0x07], "a VEX prefix"),
        (&[0xff, 0x37], "PUSH"),
        (&[0xcc], "no access to memory"),
    ] {
        assert_eq!(mmio(bytes, Mode::Bits64), Err(Error::Unknown), "{why}");
    }
}

#[test]
fn an_instruction_ends_within_its_bytes_or_is_none() {
    let whole = [0x66, 0x48, 0xc7, 0x84, 0x88, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(mmio(&whole, Mode::Bits64).unwrap().length, 13);
    for cut in 0..whole.len() {
        assert_eq!(mmio(&whole[..cut], Mode::Bits64), Err(Error::Short), "cut at {cut}");
    }
    let mut padded = [0x66; 32];
    padded[13] = 0x89;
    padded[14] = 0x07;
    assert_eq!(mmio(&padded, Mode::Bits64).unwrap().length, 15);
    padded.copy_within(13..15, 14);
    assert_eq!(mmio(&padded, Mode::Bits64), Err(Error::Long));
    assert_eq!(mmio(&[0x66; 15], Mode::Bits64), Err(Error::Long));
    assert_eq!(length(&[0xf0; 64], Mode::Bits16, Trapped::Cpuid), Err(Error::Long));
}

#[test]
fn any_bytes_are_survived() {
    let mut numbers = Numbers(1);
    for _ in 0..200_000 {
        let mut bytes = [0_u8; 20];
        bytes.fill_with(|| numbers.next() as u8);
        // Half of them with much that is a prefix.
        let prefixes = numbers.next() as usize % 16;
        for byte in bytes.iter_mut().take(prefixes) {
            *byte = numbers.of(&[0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x64, 0x48, 0x41, 0x0f]);
        }
        let bytes = &bytes[..numbers.next() as usize % 21];
        for mode in MODES {
            let Ok(found) = mmio(bytes, mode) else { continue };
            assert!(usize::from(found.length) <= bytes.len().min(MAX) && found.length > 0, "{bytes:x?}");
            let mut registers = Registers { flags: numbers.next(), ..Registers::default() };
            registers.general.fill_with(|| numbers.next() << 31 | numbers.next());
            let step = found.run(&mut registers, u64::MAX);
            assert_eq!(step.stored.unwrap_or(0) & !found.width.mask(), 0);
            assert!(step.stored.is_none() || found.operation.stores() || found.operation == Operation::OutString);
        }
    }
}

#[test]
fn strings_move_their_pointers_and_count() {
    let at = |general: [(usize, u64); 4], flags| {
        let mut r = Registers { flags, ..Registers::default() };
        general.into_iter().for_each(|(n, value)| r.general[n] = value);
        r
    };
    let movs = mmio(&[0xf3, 0xa5], Mode::Bits64).unwrap();
    let mut r = at([(1, 2), (6, 0x1000), (7, 0x2000), (0, 0)], 0);
    assert_eq!(movs.run(&mut r, 0x1_2345_6789), super::Step { stored: Some(0x2345_6789), flow: Flow::Same });
    assert_eq!((r.general[1], r.general[6], r.general[7]), (1, 0x1004, 0x2004));
    assert_eq!(movs.run(&mut r, 7).flow, Flow::Next);
    let before = r;
    assert_eq!((movs.run(&mut r, 7).stored, r), (None, before), "no times");
    // Downwards, in 32 bits: upper halves go.
    let stos = mmio(&[0x67, 0xaa], Mode::Bits64).unwrap();
    let mut r = at([(1, 9), (7, 0xffff_ffff_0000_0000), (0, 0x1234), (2, 0)], 1 << 10);
    assert_eq!(stos.run(&mut r, 0), super::Step { stored: Some(0x34), flow: Flow::Next });
    assert_eq!((r.general[7], r.general[1]), (0xffff_ffff, 9));
    // In 16 bits they stay, the counter's as well.
    let lods = mmio(&[0xf3, 0xad], Mode::Bits16).unwrap();
    let mut r = at([(1, 0xabcd_0001), (6, 0xabcd_fffe), (0, 0xffff_ffff), (2, 0)], 0);
    assert_eq!(lods.run(&mut r, 0x5678), super::Step { stored: None, flow: Flow::Next });
    assert_eq!((r.general[1], r.general[6], r.general[0]), (0xabcd_0000, 0xabcd_0000, 0xffff_5678));
}

#[test]
fn loads_fill_registers_as_their_width_says() {
    let run = |bytes: &[u8], loaded| {
        let mut r = Registers { general: [u64::MAX; 16], flags: 0 };
        let step = mmio(bytes, Mode::Bits64).unwrap().run(&mut r, loaded);
        assert_eq!(step.stored, None);
        r.general
    };
    assert_eq!(run(&[0x8a, 0x00], 0x12)[0], 0xffff_ffff_ffff_ff12);
    assert_eq!(run(&[0x8a, 0x20], 0x12)[0], 0xffff_ffff_ffff_12ff, "AH");
    assert_eq!(run(&[0x66, 0x8b, 0x08], 0x1234)[1], 0xffff_ffff_ffff_1234);
    assert_eq!(run(&[0x8b, 0x08], 0x8000_0000)[1], 0x8000_0000);
    assert_eq!(run(&[0x0f, 0xbe, 0x08], 0x80)[1], 0xffff_ff80);
    assert_eq!(run(&[0x48, 0x0f, 0xbe, 0x08], 0x80)[1], 0xffff_ffff_ffff_ff80);
    assert_eq!(run(&[0x66, 0x0f, 0xbe, 0x08], 0x80)[1], 0xffff_ffff_ffff_ff80);
    assert_eq!(run(&[0x48, 0x0f, 0xb7, 0x08], 0x8_8000)[1], 0x8000);
}
