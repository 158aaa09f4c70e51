//! Kernels that a guest may have: an ELF file, or Linux's arm64 Image (Linux, Documentation/arch/arm64/booting.rst).
//!
//! An Image is a flat file whose header, of 64 bytes, is also its first instruction:
//!
//! | offset | |
//! |---|---|
//! | 8 | where its first byte is to lie, from a multiple of 2 MiB on |
//! | 16 | bytes of memory it needs from there, or 0 in kernels before 3.17, which also say nothing of the offset |
//! | 24 | flags: bit 0, it runs big-endian |
//! | 56 | magic `ARM\x64` |
//!
//! Numbers are little-endian. The file comes from outside: each field is read once and checked (R26).

use hv_core::addr::Gpa;
use hv_core::guest::loader::{ByteOrder, Kernel, LoadError};

/// ELF machine number of 64-bit Arm.
pub const EM_AARCH64: u16 = 183;
/// Where flat kernels are put: not at 0, so that the first page stays unused as kernels expect.
pub const BASE: u64 = 2 << 20;

const HEADER: usize = 64;
const MAGIC: &[u8] = b"ARM\x64";
const BIG_ENDIAN: u64 = 1 << 0;
/// The offset that is meant where none is stated.
const OLD_OFFSET: u64 = 0x8_0000;
/// Memory that is kept free behind the file where its need is not stated.
const OLD_ROOM: u64 = 16 << 20;
const ELF: &[u8] = b"\x7fELF";
const GZIP: &[u8] = b"\x1f\x8b";

/// Checks a kernel of either form.
pub fn kernel(file: &[u8]) -> Result<Kernel<'_>, LoadError> {
    if file.get(56..60) == Some(MAGIC) && file.len() >= HEADER {
        return image(file);
    }
    match file {
        _ if file.starts_with(ELF) => Kernel::parse(file, EM_AARCH64),
        _ if file.starts_with(GZIP) => Err(LoadError::Form("it is compressed; unpack it with gunzip")),
        _ => Err(LoadError::Form("it is neither an arm64 Image nor an ELF file")),
    }
}

fn image(file: &[u8]) -> Result<Kernel<'_>, LoadError> {
    let field = |at: usize| file.get(at..at + 8).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let [Some(offset), Some(size), Some(flags)] = [field(8), field(16), field(24)] else {
        return Err(LoadError::Form("its arm64 Image header is cut short"));
    };
    let (offset, size) = match size {
        0 => (OLD_OFFSET, file.len() as u64 + OLD_ROOM),
        size => (offset, size),
    };
    if offset >= 2 << 20 || offset % 4 != 0 {
        return Err(LoadError::Form("its arm64 Image header has an impossible text_offset"));
    }
    if size < file.len() as u64 {
        return Err(LoadError::Form("its arm64 Image header has an image_size smaller than the file"));
    }
    let order = if flags & BIG_ENDIAN != 0 { ByteOrder::Big } else { ByteOrder::Little };
    Kernel::flat(file, Gpa(BASE + offset), size, order)
}

#[cfg(test)]
mod tests {
    use super::{BASE, image, kernel};
    use alloc::format;
    use alloc::vec;
    use alloc::vec::Vec;
    use hv_core::addr::Gpa;
    use hv_core::guest::loader::{ByteOrder, LoadError};
    use proptest::prelude::{any, prop_assert, proptest};

    fn file(offset: u64, size: u64, flags: u64) -> Vec<u8> {
        let mut file = vec![0x5a; 0x1000];
        for (at, word) in [(8, offset), (16, size), (24, flags)] {
            file[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        file[56..60].copy_from_slice(b"ARM\x64");
        file
    }

    fn refused(file: &[u8]) -> alloc::string::String {
        format!("{}", kernel(file).unwrap_err())
    }

    #[test]
    fn an_image_lies_where_its_header_says_and_keeps_its_memory_free() {
        let new = file(0, 0x3000, 0xa);
        let new = kernel(&new).unwrap();
        assert_eq!((new.entry, new.end, new.order), (Gpa(BASE), Gpa(BASE + 0x3000), ByteOrder::Little));
        let moved = file(0x8_0000, 0x1000, 1);
        let moved = kernel(&moved).unwrap();
        assert_eq!((moved.entry.0, moved.end.0), (BASE + 0x8_0000, BASE + 0x8_1000));
        assert_eq!(moved.order, ByteOrder::Big);
    }

    #[test]
    fn an_old_image_that_states_no_size_gets_room() {
        let old = file(0, 0, 0);
        let old = kernel(&old).unwrap();
        assert_eq!((old.entry.0, old.end.0), (BASE + 0x8_0000, BASE + 0x8_0000 + 0x1000 + (16 << 20)));
    }

    #[test]
    fn r26_headers_that_contradict_the_file_are_refused_with_a_reason() {
        assert!(refused(&file(0, 0xfff, 0)).contains("image_size smaller"));
        for offset in [2 << 20, 1 << 63, u64::MAX, 2] {
            assert!(refused(&file(offset, 0x1000, 0)).contains("text_offset"), "{offset:#x}");
        }
        assert_eq!(kernel(&file(0, u64::MAX, 0)).unwrap_err(), LoadError::Segment(0));
        assert!(refused(&file(0, 0x1000, 0)[..60]).contains("neither"), "the header is cut short");
        assert!(refused(b"").contains("neither"));
        assert!(refused(b"\x1f\x8b\x08").contains("gunzip"));
        assert_eq!(kernel(b"\x7fELF").unwrap_err(), LoadError::NotElf);
    }

    proptest! {
        #[test]
        fn r26_no_header_makes_a_kernel_smaller_than_its_file(header in any::<[u8; 56]>(), len in 64_usize..0x400) {
            let mut file = vec![0; len];
            file[..56].copy_from_slice(&header);
            file[56..60].copy_from_slice(b"ARM\x64");
            if let Ok(kernel) = image(&file) {
                prop_assert!(kernel.entry.0 >= BASE && kernel.end.0 - kernel.entry.0 >= len as u64);
            }
        }
    }
}
