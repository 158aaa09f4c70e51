//! Modules of the default guest's kernel, and the list by which `modprobe` finds what one needs (modules.dep(5)).

use std::fmt::Write as _;

use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use object::{Endianness, elf};

/// Some modules of one kernel.
pub struct Modules {
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// Their files' names and contents.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Modules {
    /// The list: each module's file, and the files of all that it needs, directly or not. A need that is not among the files is
    /// the kernel's own, or `modprobe` says that it is missing.
    pub fn dependencies(&self) -> String {
        let mut list = String::new();
        for (file, bytes) in &self.files {
            let mut needed: Vec<&str> = Vec::new();
            self.collect(bytes, &mut needed);
            let names: String = needed.iter().map(|name| format!(" {name}")).collect();
            // Writing to a string cannot fail.
            let _written = writeln!(list, "{file}:{names}");
        }
        list
    }

    /// Adds what `module` needs, that before what needs it.
    fn collect<'a>(&'a self, module: &[u8], into: &mut Vec<&'a str>) {
        for need in needs(module) {
            let found = self.files.iter().find(|(file, _)| name(file) == need);
            if let Some((file, bytes)) = found
                && !into.contains(&file.as_str())
            {
                into.push(file);
                self.collect(bytes, into);
            }
        }
    }
}

/// A module's name by its file's: Linux does not tell the two signs apart.
fn name(file: &str) -> String {
    file.trim_end_matches(".ko").replace('-', "_")
}

/// The names of the modules that this one needs: texts of the form `KEY=VALUE`, each with a zero byte behind it, are in a section.
fn needs(module: &[u8]) -> Vec<String> {
    let texts = section(module, b".modinfo").unwrap_or_default();
    let needs = texts.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"depends=")).unwrap_or_default();
    let needs = String::from_utf8_lossy(needs);
    needs.split(',').filter(|need| !need.is_empty()).map(|need| need.replace('-', "_")).collect()
}

fn section<'m>(module: &'m [u8], wanted: &[u8]) -> Option<&'m [u8]> {
    let header = FileHeader64::<Endianness>::parse(module).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, module).ok()?;
    let (_, section) = sections.section_by_name(endian, wanted)?;
    section.data(endian, module).ok().filter(|_| section.sh_type(endian) == elf::SHT_PROGBITS)
}

#[cfg(test)]
mod tests {
    use super::{Modules, name, needs};

    /// A little-endian ELF file of one section beside the one with names.
    fn module(depends: &str) -> Vec<u8> {
        const NAMES: &[u8] = b"\0.modinfo\0.names\0";
        let info = format!("license=GPL\0depends={depends}\0name=x\0");
        let mut file = vec![0; 64];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..24].copy_from_slice(&[1, 0, 21, 0, 1, 0, 0, 0]);
        let at = (64 + info.len() + NAMES.len()) as u64;
        file[40..48].copy_from_slice(&at.to_le_bytes());
        file[52..64].copy_from_slice(&[64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
        file.extend(info.as_bytes());
        file.extend(NAMES);
        let header = |name: u32, kind: u32, offset: usize, size: usize| {
            let mut header = [0_u8; 64];
            header[0..4].copy_from_slice(&name.to_le_bytes());
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            header
        };
        file.extend(header(0, 0, 0, 0));
        file.extend(header(1, 1, 64, info.len()));
        file.extend(header(10, 3, 64 + info.len(), NAMES.len()));
        file
    }

    #[test]
    fn a_module_comes_with_all_that_it_needs() {
        let files = [("kvm-hv.ko", "kvm,core-x"), ("kvm.ko", "irq_b,builtin"), ("core-x.ko", ""), ("irq-b.ko", "")];
        let files = files.map(|(name, depends)| (name.to_owned(), module(depends))).to_vec();
        let modules = Modules { release: "1".to_owned(), files };
        let list = "kvm-hv.ko: kvm.ko irq-b.ko core-x.ko\nkvm.ko: irq-b.ko\ncore-x.ko:\nirq-b.ko:\n";
        assert_eq!(modules.dependencies(), list);
        assert_eq!(name("kvm-hv.ko"), "kvm_hv");
    }

    #[test]
    fn a_file_that_is_no_module_needs_nothing() {
        assert!(needs(b"").is_empty() && needs(&[0x7f; 300]).is_empty());
        let good = module("a");
        assert_eq!(needs(&good), ["a"]);
        assert!((0..good.len()).all(|short| needs(&good[..short]).len() <= 1));
    }
}
