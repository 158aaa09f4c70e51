//! `cargo xtask size`: what a board's image consists of.

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _, SectionFlags, elf};

use crate::board::Board;
use crate::image::{self, Profile, Variant};
use crate::units::Size;

/// Bytes of an image that is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parts {
    text: u64,
    rodata: u64,
    /// Constants in `.data.rel.ro`: those that hold addresses, which whoever starts the image completes; on POWER all others as
    /// well, because LLVM merges them into one. Not counted to the limit, as `.data` is not.
    relro: u64,
    data: u64,
    bss: u64,
}

/// Prints the sizes; fails if text and read-only data exceed the board's limit.
pub fn run(board: Option<&str>) -> Result<()> {
    let boards = match board {
        Some(name) => vec![Board::named(name)?],
        None => Board::all()?,
    };
    let mut over = Vec::new();
    for board in boards {
        let path = image::build(&board, Profile::Release, Variant::Guests)?;
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let parts = parts(&bytes)?;
        let loaded = parts.text + parts.rodata;
        let Size(limit) = board.image.limit;
        let Parts { text, rodata, relro, data, bss } = parts;
        println!("{}: text {text} rodata {rodata} relro {relro} data {data} bss {bss}", board.name);
        println!(
            "{}: text + rodata {loaded} of {limit} bytes ({} %)",
            board.name,
            loaded.saturating_mul(100) / limit.max(1)
        );
        if loaded > limit {
            over.push(format!("{}: text + rodata is {} bytes over its limit", board.name, loaded - limit));
        }
    }
    if over.is_empty() { Ok(()) } else { bail!("{}", over.join("; ")) }
}

fn parts(image: &[u8]) -> Result<Parts> {
    let file = object::File::parse(image).context("the image is no ELF file")?;
    let mut parts = Parts::default();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, sh_type, .. } = section.flags() else { continue };
        let size = section.size();
        let part = match () {
            () if !sh_flags.contains(elf::SHF_ALLOC) => continue,
            () if sh_type == elf::SHT_NOBITS => &mut parts.bss,
            () if sh_flags.contains(elf::SHF_EXECINSTR) => &mut parts.text,
            () if section.name() == Ok(".data.rel.ro") => &mut parts.relro,
            () if sh_flags.contains(elf::SHF_WRITE) => &mut parts.data,
            () => &mut parts.rodata,
        };
        *part += size;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn a_program_has_all_parts_and_they_fit_its_file() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let parts = parts(&own).unwrap();
        assert!(parts.text > 0 && parts.rodata > 0 && parts.data > 0 && parts.bss > 0, "{parts:?}");
        assert!(parts.text + parts.rodata + parts.data < own.len() as u64);
    }
}
