//! Refuses an image with floating-point or vector instructions outside the state-switch assembly.
//!
//! Trivet leaves a guest's floating-point and vector registers loaded while it works, so one stray use would corrupt
//! a guest. Opcodes are from the Power ISA 3.1, appendix on opcode maps; the check reads every word of executable
//! sections, since instructions are words there.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, elf};

/// Symbols whose code may touch those registers begin with this.
const ALLOWED: &str = "__trivet_state_switch";
/// Symbols whose words are not little-endian code begin with this.
const FOREIGN: &str = "__trivet_big_endian";
/// More findings than this add nothing.
const SHOWN: usize = 8;

/// Checks the image's bytes; other architectures than POWER are built for soft float and pass.
pub fn check(image: &[u8], path: &Path) -> Result<()> {
    let file = object::File::parse(image).with_context(|| format!("{} is no ELF file", path.display()))?;
    if file.architecture() != object::Architecture::PowerPc64 {
        return Ok(());
    }
    let mut found = Vec::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        if !sh_flags.contains(elf::SHF_EXECINSTR) {
            continue;
        }
        // Of this section only: the log's message numbers are symbols near address 0, where code may lie too.
        let here = file.symbols().filter(|s| s.is_definition() && s.section_index() == Some(section.index()));
        let mut symbols: Vec<(u64, &str)> = here.filter_map(|s| Some((s.address(), s.name().ok()?))).collect();
        symbols.sort_unstable();
        for (word, address) in section.data()?.as_chunks::<4>().0.iter().zip((section.address()..).step_by(4)) {
            let Some(kind) = kind(u32::from_le_bytes(*word)) else { continue };
            let after = symbols.partition_point(|(start, _)| *start <= address);
            let (start, name) = after.checked_sub(1).and_then(|at| symbols.get(at)).copied().unwrap_or((0, "?"));
            let here = symbols.iter().filter(|(begin, _)| *begin == start).map(|(_, name)| name);
            if !here.clone().any(|name| name.starts_with(ALLOWED) || name.starts_with(FOREIGN)) {
                found.push(format!(
                    "  {address:#x} in {name}+{:#x}: {kind} {:08x}",
                    address - start,
                    u32::from_le_bytes(*word)
                ));
            }
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let (count, shown) = (found.len(), found.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n"));
    bail!("{} has {count} floating-point or vector instructions that would corrupt a guest:\n{shown}", path.display())
}

/// What kind of forbidden instruction a word is.
fn kind(word: u32) -> Option<&'static str> {
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
    use super::kind;

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
            assert!(kind(word).is_some(), "{name}");
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
            assert_eq!(kind(word), None, "{name}");
        }
    }
}
