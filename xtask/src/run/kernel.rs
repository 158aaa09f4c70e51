//! Is this file a kernel that the board can boot?

use std::path::{Path, PathBuf};

use anyhow::Result;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{Endianness, elf};
use sha2::{Digest as _, Sha256};

use crate::board::{Guest, KernelForm};
use crate::error::refuse;
use crate::guests::bzimage;
use crate::progress::step;
use crate::workspace;

/// The file that is booted for `file`: itself, or the program that is packed in it. Refuses one that is neither a kernel of
/// the form that the board's guests have, nor a little-endian 64-bit ELF program for their machine.
pub fn bootable(file: &Path, guest: &Guest) -> Result<PathBuf> {
    let bytes = std::fs::read(file).map_err(|error| refuse(format!("kernel {}: {error}", file.display())))?;
    let problem = match guest.kernel_form {
        KernelForm::Elf => program(&bytes, guest.elf_machine),
        KernelForm::Arm64Image => match arm64_image(&bytes) {
            Found::Good => None,
            Found::Bad(what) => Some(what),
            Found::Other if bytes.starts_with(&elf::ELFMAG) => program(&bytes, guest.elf_machine),
            Found::Other => Some("no 64-bit ELF file and no arm64 Image"),
        },
        KernelForm::BzImage if bzimage::is(&bytes) => return unpacked(file, &bytes, guest.elf_machine),
        KernelForm::BzImage if bytes.starts_with(&elf::ELFMAG) => program(&bytes, guest.elf_machine),
        KernelForm::BzImage => Some("no 64-bit ELF file and no bzImage"),
    };
    problem.map_or_else(|| Ok(file.to_owned()), |what| Err(wrong(file, what)))
}

fn wrong(file: &Path, what: &str) -> anyhow::Error {
    refuse(format!("kernel {}: {what}", file.display()))
}

/// Unpacks a kernel, once: the result is kept in the build folder, under its source's checksum.
fn unpacked(file: &Path, bytes: &[u8], machine: u16) -> Result<PathBuf> {
    let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = workspace::target_dir().join("unpacked").join(sum);
    if !kept.is_file() {
        let content = step("unpacking the kernel", || Ok(bzimage::unpack(bytes)))?.map_err(|why| wrong(file, &why))?;
        if let Some(what) = program(&content, machine) {
            return Err(wrong(file, &format!("what is packed in it: {what}")));
        }
        workspace::write_file(&kept, &content)?;
    }
    Ok(kept)
}

fn program(bytes: &[u8], machine: u16) -> Option<&'static str> {
    let Ok(header) = elf::FileHeader64::<Endianness>::parse(bytes) else { return Some("no 64-bit ELF file") };
    let Ok(endian) = header.endian() else { return Some("no ELF file of a known byte order") };
    if endian != Endianness::Little {
        return Some("big-endian, but guests are little-endian");
    }
    if header.e_machine.get(endian).0 != machine {
        return Some("built for another architecture");
    }
    match header.program_headers(endian, bytes) {
        Ok(segments) if segments.iter().any(|segment| segment.p_type(endian) == elf::PT_LOAD) => None,
        Ok(_) => Some("an ELF file, but no program: nothing in it is to be loaded"),
        Err(_) => Some("truncated"),
    }
}

/// What a file is that may be an arm64 Image.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// One.
    Good,
    /// One that cannot be booted, or what stands in its place.
    Bad(&'static str),
    /// Something else.
    Other,
}

/// The header of an arm64 Image: 64 bytes, little-endian whatever the kernel is.
fn arm64_image(bytes: &[u8]) -> Found {
    const MAGIC: &[u8] = b"ARM\x64";
    const BIG_ENDIAN: u64 = 1;
    if bytes.starts_with(&[0x1f, 0x8b]) || bytes.get(4..8) == Some(b"zimg") {
        return Found::Bad("compressed; unpack it first");
    }
    if bytes.get(56..60) != Some(MAGIC) {
        return Found::Other;
    }
    let word = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    match (word(16), word(24)) {
        (_, Some(flags)) if flags & BIG_ENDIAN != 0 => Found::Bad("big-endian, but guests are little-endian"),
        // Without a size nothing says how much memory it needs; no kernel since Linux 3.17 is so.
        (Some(0), _) => Found::Bad("an arm64 Image that does not tell its size"),
        (Some(_), Some(_)) => Found::Good,
        _ => Found::Bad("truncated"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, arm64_image, program};

    #[test]
    fn other_files_are_told_apart() {
        assert_eq!(program(b"", 21), Some("no 64-bit ELF file"));
        assert_eq!(program(&[0x55; 4096], 21), Some("no 64-bit ELF file"));
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(program(&own, 21), Some("built for another architecture"));
        let native = u16::from_le_bytes([own[18], own[19]]);
        assert_eq!(program(&own, native), None);
        assert_eq!(program(&own[..100], native), Some("truncated"));
    }

    #[test]
    fn an_image_is_known_by_its_header() {
        let mut image = [0; 128];
        assert_eq!(arm64_image(&image), Found::Other);
        image[56..60].copy_from_slice(b"ARMd");
        assert_eq!(arm64_image(&image), Found::Bad("an arm64 Image that does not tell its size"));
        image[18] = 2;
        assert_eq!(arm64_image(&image), Found::Good);
        image[24] = 1;
        assert_eq!(arm64_image(&image), Found::Bad("big-endian, but guests are little-endian"));
        for (start, what) in [(&b"\x1f\x8b\x08\0"[..], "gzip"), (b"MZ\0\0zimg", "zboot")] {
            image[..start.len()].copy_from_slice(start);
            assert_eq!(arm64_image(&image), Found::Bad("compressed; unpack it first"), "{what}");
        }
        for short in [&b""[..], &[0; 59]] {
            assert_eq!(arm64_image(short), Found::Other);
        }
    }
}
