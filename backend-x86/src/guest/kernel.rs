//! Kernels that a guest may have: an ELF file (an unpacked `vmlinux`), or Linux's bzImage, which unpacks itself (Linux,
//! Documentation/arch/x86/boot.rst; both are entered by its 64-bit protocol).
//!
//! A bzImage is a setup program of 512-byte sectors, which nobody runs, and then the kernel, whose entry is 512 bytes in.
//! Fields of its header:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0x1f1 | 1 | sectors of the setup program, without the first |
//! | 0x1fe | 2 | 0xaa55 |
//! | 0x201 | 1 | the header ends so many bytes behind 0x202 |
//! | 0x202 | 4 | magic `HdrS` |
//! | 0x206 | 2 | version; from 2.12 on it says whether there is a 64-bit entry |
//! | 0x236 | 2 | bit 0: there is |
//! | 0x258 | 8 | where the kernel wants to lie |
//! | 0x260 | 4 | bytes of memory that it needs there |
//!
//! The file comes from outside: each field is read once and checked (R26).

use hv_core::addr::Gpa;
use hv_core::guest::loader::{ByteOrder, Kernel, LoadError};

use super::layout::HOLE;

/// ELF machine number of x86-64.
pub const EM_X86_64: u16 = 62;

const HEADER: usize = 0x1f1;
/// First byte behind the longest header that the zero page has room for.
const HEADER_END: usize = 0x290;
const MAGIC: &[u8] = b"HdrS";
const OLDEST: u64 = 0x020c;
const ENTRY_64: u64 = 0x200;
const ELF: &[u8] = b"\x7fELF";
/// Nothing is loaded below: this is where a processor starts another.
const LOWEST: u64 = 1 << 20;

/// Checks a kernel of either form.
pub fn kernel(file: &[u8]) -> Result<Kernel<'_>, LoadError> {
    let kernel = match file {
        _ if is_bzimage(file) => bzimage(file)?,
        _ if file.starts_with(ELF) => Kernel::parse(file, EM_X86_64)?,
        _ => return Err(LoadError::Form("it is neither an ELF file nor a bzImage")),
    };
    // It begins with the first 4 GiB mapped, and the hole is not memory.
    if kernel.end > HOLE.start { Err(LoadError::Form("it ends above 3 GiB")) } else { Ok(kernel) }
}

/// The header of a bzImage, which its kernel wants to be handed; `None` for other forms.
#[must_use]
pub fn setup_header(file: &[u8]) -> Option<&[u8]> {
    let end = 0x202 + usize::from(*file.get(0x201).filter(|_| is_bzimage(file))?);
    file.get(HEADER..end.min(HEADER_END))
}

fn is_bzimage(file: &[u8]) -> bool {
    file.get(0x1fe..0x200) == Some(&[0x55, 0xaa]) && file.get(0x202..0x206) == Some(MAGIC)
}

fn bzimage(file: &[u8]) -> Result<Kernel<'_>, LoadError> {
    let cut = LoadError::Form("its bzImage header is cut short");
    let field = |at: usize, bytes: usize| {
        let field = file.get(at..at + bytes).ok_or(cut)?;
        Ok::<u64, LoadError>(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    if field(0x206, 2)? < OLDEST || field(0x236, 2)? & 1 == 0 {
        return Err(LoadError::Form("it is a bzImage without a 64-bit entry"));
    }
    // 0 is how the oldest loaders said 4.
    let sectors = match field(HEADER, 1)? {
        0 => 4,
        sectors => sectors as usize,
    };
    let (at, memory) = (field(0x258, 8)?, field(0x260, 4)?);
    let body = file.get((sectors + 1) * 512..).filter(|body| body.len() as u64 > ENTRY_64).ok_or(cut)?;
    if at < LOWEST || at % 0x1000 != 0 {
        return Err(LoadError::Form("its bzImage header has an impossible address"));
    }
    if memory < body.len() as u64 {
        return Err(LoadError::Form("its bzImage header asks for less memory than the file has bytes"));
    }
    let mut kernel = Kernel::flat(body, Gpa(at), memory, ByteOrder::Little)?;
    kernel.entry = Gpa(at + ENTRY_64);
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::{kernel, setup_header};
    use hv_core::addr::Gpa;
    use hv_core::guest::loader::LoadError;
    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::{prop_assert, proptest};

    fn file() -> Vec<u8> {
        let mut file = vec![0x5a; 0x3000];
        for (at, bytes) in [
            (0x1f1, &[3][..]),
            (0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]),
            (0x202, b"HdrS\x0f\x02"),
            (0x236, &[1, 0]),
            (0x258, &0x100_0000_u64.to_le_bytes()),
            (0x260, &0x30_0000_u32.to_le_bytes()),
        ] {
            file[at..at + bytes.len()].copy_from_slice(bytes);
        }
        file
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = file();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    }

    fn refused(file: &[u8]) -> String {
        kernel(file).unwrap_err().to_string()
    }

    #[test]
    fn a_bzimage_lies_where_it_wants_without_its_setup_program() {
        let file = file();
        let kernel = kernel(&file).unwrap();
        assert_eq!((kernel.entry, kernel.end), (Gpa(0x100_0200), Gpa(0x130_0000)));
        let mut written = 0;
        kernel
            .load(|at, bytes| {
                assert!(at.0 >= 0x100_0000);
                written += bytes.len();
                Ok(())
            })
            .unwrap();
        assert_eq!(written, 0x3000 - 4 * 512);
        let header = setup_header(&file).unwrap();
        assert_eq!((header.len(), header[0], header[0x11]), (0x202 + 0x6a - 0x1f1, 3, b'H'));
    }

    #[test]
    fn r26_headers_that_cannot_be_are_refused_with_a_reason() {
        assert!(refused(&with(0x206, &[0x0b, 0x02])).contains("64-bit entry"));
        assert!(refused(&with(0x236, &[2])).contains("64-bit entry"));
        assert!(refused(&with(0x258, &0xf_f000_u64.to_le_bytes())).contains("address"));
        assert!(refused(&with(0x258, &0x100_0001_u64.to_le_bytes())).contains("address"));
        assert!(refused(&with(0x258, &0xbff0_0000_u64.to_le_bytes())).contains("3 GiB"));
        assert_eq!(kernel(&with(0x258, &(u64::MAX - 0xfff).to_le_bytes())).unwrap_err(), LoadError::Segment(0));
        assert!(refused(&with(0x260, &[0xff, 0x27, 0, 0])).contains("less memory"));
        assert!(kernel(&with(0x260, &[0, 0x28, 0, 0])).is_ok());
        assert!(refused(&with(0x1f1, &[0x17])).contains("cut short"));
        assert!(refused(&file()[..0x262]).contains("cut short"));
        assert!(refused(b"").contains("neither"));
        assert_eq!(kernel(b"\x7fELF").unwrap_err(), LoadError::NotElf);
        assert!(setup_header(b"\x7fELF").is_none() && setup_header(&with(0x202, b"X")).is_none());
        assert_eq!(setup_header(&with(0x201, &[0xff])).unwrap().len(), 0x290 - 0x1f1, "no more than there is room for");
    }

    proptest! {
        #[test]
        fn r26_no_header_loads_outside_of_what_it_states(changes in vec((0x1f0_usize..0x270, any::<u8>()), 0..6), len in 0x200_usize..0x3000) {
            let mut file = file();
            for (at, byte) in changes {
                file[at] = byte;
            }
            file.truncate(len);
            let _ = setup_header(&file);
            if let Ok(kernel) = kernel(&file) {
                let (mut first, mut last) = (u64::MAX, 0);
                kernel.load(|at, bytes| {
                    (first, last) = (first.min(at.0), last.max(at.0 + bytes.len() as u64));
                    Ok(())
                }).unwrap();
                prop_assert!(first >= 1 << 20 && last <= kernel.end.0 && kernel.end.0 <= 3 << 30);
                prop_assert!(kernel.entry.0 > 1 << 20 && kernel.entry < kernel.end);
            }
        }
    }
}
