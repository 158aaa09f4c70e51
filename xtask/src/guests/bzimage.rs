//! The ELF program inside of a compressed x86 kernel (Linux: Documentation/arch/x86/boot.rst).
//!
//! A kernel that unpacks itself spends most of its boot on that where it is emulated, so it is unpacked here.

use std::io::Read as _;

use lzma_rust2::XzReader;

/// No kernel is larger.
const LIMIT: u64 = 1 << 30;
/// What a payload begins with, by the program that packed it.
const PACKERS: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x5d\0\0", "lzma"),
    (b"BZh", "bzip2"),
    (b"\x89\x4c\x5a\x4f", "lzo"),
];
const XZ: &[u8] = b"\xfd7zXZ\0";

/// Whether it is one: the setup header has a signature.
pub fn is(file: &[u8]) -> bool {
    file.get(0x1fe..0x200) == Some(&[0x55, 0xaa]) && file.get(0x202..0x206) == Some(b"HdrS")
}

/// Unpacks it; otherwise says why that cannot be done.
pub fn unpack(file: &[u8]) -> Result<Vec<u8>, String> {
    let payload = payload(file).ok_or("truncated, or older than Linux 2.6.24")?;
    if !payload.starts_with(XZ) {
        let packer = PACKERS.iter().find(|(magic, _)| payload.starts_with(magic)).map_or("an unknown program", |p| p.1);
        return Err(format!("packed by {packer}, not xz; unpack it first (Linux: scripts/extract-vmlinux)"));
    }
    let mut program = Vec::new();
    // Behind the stream are four bytes with the unpacked size.
    let read = XzReader::new(payload, false).take(LIMIT + 1).read_to_end(&mut program);
    match read {
        Ok(_) if program.len() as u64 > LIMIT => Err("larger than any kernel".to_owned()),
        Ok(_) => Ok(program),
        Err(error) => Err(format!("damaged: {error}")),
    }
}

/// The packed program, behind the sectors of the setup code.
fn payload(file: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let version = u16::from_le_bytes(*file.get(0x206..)?.first_chunk()?);
    if version < 0x0208 {
        return None;
    }
    // None means four, for the oldest.
    let sectors = match *file.get(0x1f1)? {
        0 => 4,
        count => usize::from(count),
    };
    let start = ((sectors + 1) * 512).checked_add(word(0x248)?.try_into().ok()?)?;
    file.get(start..)?.get(..word(0x24c)?.try_into().ok()?)
}

#[cfg(test)]
mod tests {
    use super::{is, payload, unpack};

    /// A kernel of one sector of setup code with this payload 16 bytes into the rest.
    fn image(content: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 1024 + 16];
        file[0x1f1] = 1;
        file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        file[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        file[0x24c..0x250].copy_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
        file.extend(content);
        file
    }

    /// `printf 'a kernel' | xz --check=crc32`, and the size that Linux puts behind it.
    const PACKED: &[u8] = b"\xfd7zXZ\x00\x00\x01i\"\xde6\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\x01\x00\x07a kernel\x00\xd8}\xceZ\x00\x01\x1c\x08D`*\xc8\x90B\x99\x0d\x01\x00\x00\x00\x00\x01YZ\x08\0\0\0";

    #[test]
    fn the_payload_is_found_and_nothing_is_read_beyond_it() {
        let file = image(b"payload");
        assert!(is(&file) && !is(&file[..100]) && !is(b"\x7fELF"));
        assert_eq!(payload(&[&file[..], b"behind"].concat()), Some(&b"payload"[..]));
        for cut in 0..file.len() {
            assert_eq!(payload(&file[..cut]), None, "{cut}");
        }
        let mut wild = file.clone();
        wild[0x248..0x250].fill(0xff);
        assert_eq!(payload(&wild), None);
        wild = file;
        wild[0x207] = 1;
        assert_eq!(payload(&wild), None, "too old to say where it is");
    }

    #[test]
    fn what_cannot_be_unpacked_says_why() {
        assert!(unpack(&image(b"\x28\xb5\x2f\xfd....")).unwrap_err().contains("zstd"));
        assert!(unpack(&image(b"what")).unwrap_err().contains("unknown program"));
        assert_eq!(unpack(&image(PACKED)).unwrap(), b"a kernel");
        let mut bad = image(PACKED);
        let middle = bad.len() - 36;
        bad[middle] ^= 1;
        assert!(unpack(&bad).unwrap_err().contains("damaged"));
    }
}
