//! Writes a cpio archive of the form that Linux unpacks into its first file system (`newc`: kernel documentation,
//! "initramfs buffer format").

use std::io::Write as _;

/// What an entry is.
pub enum Kind<'a> {
    /// A folder.
    Folder,
    /// A program.
    Program(&'a [u8]),
    /// Data.
    File(&'a [u8]),
    /// A character device with its numbers.
    Device(u32, u32),
}

/// An archive being written.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds an entry; `path` has no leading slash, folders come before what they hold.
    pub fn add(&mut self, path: &str, kind: &Kind<'_>) {
        let (mode, links, data, major, minor): (u32, u32, &[u8], u32, u32) = match *kind {
            Kind::Folder => (0o040_755, 2, &[], 0, 0),
            Kind::Program(data) => (0o100_755, 1, data, 0, 0),
            Kind::File(data) => (0o100_644, 1, data, 0, 0),
            Kind::Device(major, minor) => (0o020_600, 1, &[], major, minor),
        };
        self.entry(path, mode, links, data, (major, minor));
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, 1, &[], (0, 0));
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, links: u32, data: &[u8], device: (u32, u32)) {
        self.entries += 1;
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let fields = [
            self.entries, // inode
            mode,
            0, // owner
            0, // group
            links,
            0, // time of change: none, so that the archive is the same on every machine
            length(data.len()),
            0, // the archive's own device
            0,
            device.0,
            device.1,
            length(path.len() + 1),
            0, // checksum, unused in this form
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            // Writing to a vector cannot fail.
            let _written = write!(self.bytes, "{field:08x}");
        }
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Archive, Kind};

    #[test]
    fn entries_are_aligned_and_sized() {
        let mut archive = Archive::default();
        archive.add("dev", &Kind::Folder);
        archive.add("dev/console", &Kind::Device(5, 1));
        archive.add("init", &Kind::Program(b"12345"));
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let headers: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"070701")).collect();
        assert_eq!(headers.len(), 4);
        assert!(headers.iter().all(|at| at % 4 == 0));
        let init = &bytes[headers[2]..];
        assert_eq!(&init[6 + 8 * 6..6 + 8 * 7], b"00000005");
        assert_eq!(&init[110..115], b"init\0");
        assert_eq!(&init[116..121], b"12345");
    }
}
