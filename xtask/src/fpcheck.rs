//! Refuses an image with floating-point or vector instructions outside the state-switch assembly.
//!
//! Trivet leaves a guest's floating-point and vector registers loaded while it works, so one stray use would corrupt
//! a guest. Opcodes are from the Power ISA 3.1, appendix on opcode maps, and from DDI 0487, C4.1; the check reads every word
//! of executable sections, since instructions are words on both, but for what the assembler marks as data. x86's have
//! lengths of their own and are decoded from each symbol on.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction, Register};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, elf};

/// Symbols whose code may touch those registers begin with this.
const ALLOWED: &str = "__trivet_state_switch";
/// Symbols whose bytes are not code of the mode that Trivet runs in begin with one of these.
const FOREIGN: [&str; 2] = ["__trivet_big_endian", "__trivet_32_bit"];
/// Mapping symbols of Arm's ELF (AAELF64, 5.5.1): data begin here, code begins here.
const MAPPING: [&str; 2] = ["$d", "$x"];
/// More findings than this add nothing.
const SHOWN: usize = 8;

/// Whom to tell of a forbidden instruction: where it is, of what kind, its bytes.
type Found<'a> = &'a mut dyn FnMut(u64, &'static str, &[u8]);
/// Reads code that begins at an address.
type Reader = fn(&[u8], u64, Found<'_>);

/// Checks the image's bytes.
pub fn check(image: &[u8], path: &Path) -> Result<()> {
    let file = object::File::parse(image).with_context(|| format!("{} is no ELF file", path.display()))?;
    let read: Reader = match file.architecture() {
        object::Architecture::PowerPc64 => |code, at, found| words(code, at, power, found),
        object::Architecture::Aarch64 => |code, at, found| words(code, at, arm, found),
        object::Architecture::X86_64 => x86,
        other => bail!("{} is for {other:?}, of which no instructions are known", path.display()),
    };
    let mut found = Vec::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        if !sh_flags.contains(elf::SHF_EXECINSTR) {
            continue;
        }
        // Of this section only: the log's message numbers are symbols near address 0, where code may lie too.
        let here = file.symbols().filter(|s| s.section_index() == Some(section.index()));
        let mark = |name: &str| MAPPING.iter().any(|mark| name.split('.').next() == Some(mark));
        let (mut symbols, mut marks) = (Vec::new(), Vec::new());
        for symbol in here {
            match symbol.name() {
                Ok(name) if mark(name) => marks.push((symbol.address(), name)),
                Ok(name) if symbol.is_definition() => symbols.push((symbol.address(), name)),
                _ => {}
            }
        }
        symbols.sort_unstable();
        marks.sort_unstable();
        let start = section.address();
        let data = section.data()?;
        // Parts that begin with a symbol each, and what is before the first.
        let mut borders: Vec<u64> = symbols.iter().map(|(address, _)| *address).filter(|at| *at > start).collect();
        borders.insert(0, start);
        borders.dedup();
        for (at, from) in borders.iter().enumerate() {
            let offset = |address: u64| usize::try_from(address - start).unwrap_or(usize::MAX).min(data.len());
            let end = borders.get(at + 1).map_or(data.len(), |next| offset(*next));
            let names = symbols.iter().filter(|(begin, _)| begin == from).map(|(_, name)| *name);
            let free = |name: &str| name.starts_with(ALLOWED) || FOREIGN.iter().any(|mark| name.starts_with(mark));
            if names.clone().any(free) {
                continue;
            }
            let name = names.clone().next().unwrap_or("?");
            read(data.get(offset(*from)..end).unwrap_or_default(), *from, &mut |address, kind, bytes| {
                let mark = marks.partition_point(|(start, _)| *start <= address).checked_sub(1);
                if !mark.and_then(|at| marks.get(at)).is_some_and(|(_, name)| name.starts_with(MAPPING[0])) {
                    found.push(format!("  {address:#x} in {name}+{:#x}: {kind} {bytes:02x?}", address - from));
                }
            });
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let (count, shown) = (found.len(), found.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n"));
    bail!("{} has {count} floating-point or vector instructions that would corrupt a guest:\n{shown}", path.display())
}

/// Reads code whose instructions are words.
fn words(code: &[u8], at: u64, kind: fn(u32) -> Option<&'static str>, found: Found<'_>) {
    for (word, address) in code.as_chunks::<4>().0.iter().zip((at..).step_by(4)) {
        if let Some(kind) = kind(u32::from_le_bytes(*word)) {
            found(address, kind, word);
        }
    }
}

/// Reads code of x86's 64-bit mode.
fn x86(code: &[u8], at: u64, found: Found<'_>) {
    for instruction in &mut Decoder::with_ip(64, code, at, DecoderOptions::NONE) {
        if let Some(kind) = stateful(&instruction) {
            let start = usize::try_from(instruction.ip() - at).unwrap_or(usize::MAX);
            let bytes = code.get(start..start.saturating_add(instruction.len())).unwrap_or_default();
            found(instruction.ip(), kind, bytes);
        }
    }
}

/// What kind of forbidden instruction one of x86 is. Those that save and restore all of the state name none of its registers; no
/// compiler makes them.
fn stateful(instruction: &Instruction) -> Option<&'static str> {
    let registers = (0..instruction.op_count()).map(|operand| instruction.op_register(operand));
    let kind = |register: Register| match register {
        r if r.is_vector_register() => Some("vector"),
        r if r.is_mm() || r.is_st() => Some("floating-point"),
        r if r.is_k() || r.is_tmm() || r.is_bnd() => Some("vector"),
        _ => None,
    };
    let x87 = [CpuidFeature::FPU, CpuidFeature::FPU287, CpuidFeature::FPU387];
    let stack = instruction.cpuid_features().iter().any(|feature| x87.contains(feature));
    registers.into_iter().find_map(kind).or(stack.then_some("floating-point"))
}

/// What kind of forbidden instruction a word of A64 is, by its top-level groups.
fn arm(word: u32) -> Option<&'static str> {
    match word >> 25 & 0xf {
        0b0000 if word >> 31 == 1 => Some("matrix"),
        0b0010 => Some("scalable vector"),
        0b0111 | 0b1111 => Some("floating-point or vector"),
        // Loads and stores, of those registers if bit 26 is set.
        0b0110 | 0b1110 => Some("floating-point or vector load or store"),
        _ => None,
    }
}

/// What kind of forbidden instruction a word of POWER is.
fn power(word: u32) -> Option<&'static str> {
    match word >> 26 {
        // maddhd, maddhdu and maddld are integer instructions among the vector ones.
        4 if matches!(word & 0x3f, 48 | 49 | 51) => None,
        4 => Some("vector"),
        1 => Some("prefixed"),
        6 | 57 | 60 | 61 => Some("vector-scalar"),
        48..=55 | 59 | 63 => Some("floating-point"),
        31 => indexed((word >> 1) & 0x3ff),
        _ => None,
    }
}

/// Primary opcode 31, by extended opcode: loads, stores and moves of those registers.
fn indexed(extended: u32) -> Option<&'static str> {
    match extended {
        6 | 7 | 38 | 39 | 71 | 103 | 135 | 167 | 199 | 231 | 359 | 487 => Some("vector"),
        535 | 567 | 599 | 631 | 663 | 695 | 727 | 759 | 791 | 855 | 887 | 919 | 983 => Some("floating-point"),
        12 | 13 | 45 | 76 | 77 | 109 | 140 | 141 | 173 | 205 | 237 | 268 | 269 | 300 | 301 | 332 | 333 | 364 | 396
        | 397 | 428 | 429 | 461 | 524 | 588 | 652 | 716 | 780 | 781 | 812 | 813 | 844 | 876 | 908 | 909 | 940 | 941
        | 972 | 1004 => Some("vector-scalar"),
        51 | 115 | 179 | 211 | 243 | 307 | 403 | 435 => Some("vector-scalar"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{arm, power, x86};

    fn kind(code: &[u8]) -> Option<&'static str> {
        let mut kinds = Vec::new();
        x86(code, 0x10_0000, &mut |_, kind, bytes| {
            assert_eq!(bytes, code);
            kinds.push(kind);
        });
        kinds.pop()
    }

    #[test]
    fn forbidden_instructions_of_x86_are_known() {
        for (code, name) in [
            (&[0x0f, 0x57, 0xc0][..], "xorps xmm0,xmm0"),
            (&[0xf3, 0x0f, 0x6f, 0x07], "movdqu xmm0,[rdi]"),
            (&[0x66, 0x48, 0x0f, 0x6e, 0xc0], "movq xmm0,rax"),
            (&[0xc5, 0xfe, 0x6f, 0x07], "vmovdqu ymm0,[rdi]"),
            (&[0x62, 0xf1, 0x7c, 0x48, 0x10, 0x07], "vmovups zmm0,[rdi]"),
            (&[0xc5, 0xf8, 0x92, 0xc8], "kmovw k1,eax"),
            (&[0x0f, 0x6e, 0xc0], "movd mm0,eax"),
            (&[0xd9, 0xe8], "fld1"),
            (&[0xdd, 0x07], "fld qword [rdi]"),
            (&[0xdf, 0xe0], "fnstsw ax"),
        ] {
            assert!(kind(code).is_some(), "{name}");
        }
        for (code, name) in [
            (&[0x90][..], "nop"),
            (&[0x48, 0x01, 0xc3], "add rbx,rax"),
            (&[0xf3, 0x48, 0xab], "rep stosq"),
            (&[0x0f, 0x01, 0xd8], "vmrun"),
            (&[0x0f, 0xae, 0x27], "xsave [rdi]"),
            (&[0x0f, 0xae, 0x0f], "fxrstor [rdi]"),
            (&[0x0f, 0x01, 0xd1], "xsetbv"),
            (&[0x0f, 0x22, 0xc0], "mov cr0,rax"),
            (&[0xf3, 0x48, 0x0f, 0xb8, 0xc0], "popcnt rax,rax"),
        ] {
            assert_eq!(kind(code), None, "{name}");
        }
    }

    #[test]
    fn forbidden_instructions_are_known() {
        for (word, name) in [
            (0xc821_0010, "lfd f1,16(r1)"),
            (0xd001_0008, "stfs f0,8(r1)"),
            (0xf400_0011, "lxv vs0,16(r0)"),
            (0x7c00_1e98, "lxvd2x vs0,0,r3"),
            (0x7c40_18ce, "lvx v2,0,r3"),
            (0x1000_04c4, "vxor v0,v0,v0"),
            (0xf000_04d7, "xxlxor vs32,vs32,vs32"),
            (0xfc20_1090, "fmr f1,f2"),
            (0x7c00_0066, "mfvsrd r0,f0"),
        ] {
            assert!(power(word).is_some(), "{name}");
        }
    }

    #[test]
    fn integer_instructions_pass() {
        for (word, name) in [
            (0x6000_0000, "nop"),
            (0x7c63_2214, "add r3,r3,r4"),
            (0xe861_0010, "ld r3,16(r1)"),
            (0xf861_0010, "std r3,16(r1)"),
            (0x7c00_04ac, "sync"),
            (0x7c60_18a8, "ldarx r3,0,r3"),
            (0x1064_2973, "maddld r3,r4,r5,r5"),
            (0x4400_0022, "sc 1"),
            (0x7c08_02a6, "mflr r0"),
        ] {
            assert_eq!(power(word), None, "{name}");
        }
    }

    #[test]
    fn forbidden_instructions_of_arm_are_known() {
        for (word, name) in [
            (0xad00_0400, "stp q0,q1,[x0]"),
            (0x3dc0_0000, "ldr q0,[x0]"),
            (0xfd40_0000, "ldr d0,[x0]"),
            (0x1c00_0000, "ldr s0,0"),
            (0x4c40_7000, "ld1 {v0.16b},[x0]"),
            (0x4e20_1c00, "and v0.16b,v0.16b,v0.16b"),
            (0x1e60_4020, "fmov d0,d1"),
            (0x9e66_0000, "fmov x0,d0"),
            (0x6f00_e400, "movi v0.2d,#0"),
            (0x0420_0000, "add z0.b,z0.b,z0.b"),
            (0x8580_0000, "ldr p0,[x0]"),
            (0xc080_0000, "mova"),
        ] {
            assert!(arm(word).is_some(), "{name}");
        }
        for (word, name) in [
            (0xd503_201f, "nop"),
            (0x8b02_0020, "add x0,x1,x2"),
            (0x9b02_7c20, "mul x0,x1,x2"),
            (0xa9bf_7bfd, "stp x29,x30,[sp,#-16]!"),
            (0xf940_0000, "ldr x0,[x0]"),
            (0x5800_0000, "ldr x0,0"),
            (0xc85f_7c00, "ldxr x0,[x0]"),
            (0xd51e_1140, "msr cptr_el2,x0"),
            (0x9ac0_0820, "udiv x0,x1,x0"),
            (0xd450_0002, "hlt"),
            (0xd69f_03e0, "eret"),
        ] {
            assert_eq!(arm(word), None, "{name}");
        }
    }
}
