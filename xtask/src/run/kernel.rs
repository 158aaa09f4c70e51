//! Is this file a kernel that the board can boot?

use std::path::Path;

use anyhow::Result;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{Endianness, elf};

use crate::error::refuse;

/// Refuses a file that is no little-endian 64-bit ELF program for the ELF machine number `machine`.
pub fn check(file: &Path, machine: u16) -> Result<()> {
    let bytes = std::fs::read(file).map_err(|error| refuse(format!("kernel {}: {error}", file.display())))?;
    problem(&bytes, machine).map_or(Ok(()), |what| Err(refuse(format!("kernel {}: {what}", file.display()))))
}

fn problem(bytes: &[u8], machine: u16) -> Option<&'static str> {
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

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn other_files_are_told_apart() {
        assert_eq!(problem(b"", 21), Some("no 64-bit ELF file"));
        assert_eq!(problem(&[0x55; 4096], 21), Some("no 64-bit ELF file"));
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(problem(&own, 21), Some("built for another architecture"));
        let native = u16::from_le_bytes([own[18], own[19]]);
        assert_eq!(problem(&own, native), None);
        assert_eq!(problem(&own[..100], native), Some("truncated"));
    }
}
