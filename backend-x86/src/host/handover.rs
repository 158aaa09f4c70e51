//! What the loader hands over: memory, the bundle, and perhaps where ACPI's tables are. Two forms: PVH's start info (Xen:
//! include/public/arch-x86/hvm/start_info.h) and multiboot2's information (specification 2.0, 3.6).

use alloc::vec::Vec;
use core::ops::Range;

use super::physical::{Physical, long, number};

/// What EAX holds when a multiboot2 loader enters.
const MULTIBOOT2: u32 = 0x36d7_6289;
/// What start info begins with.
const START_INFO: u64 = 0x336e_c578;

/// More entries than any loader passes on (E820 itself: 128).
const MOST_ENTRIES: usize = 512;
/// More than any loader's information takes.
const MOST_BYTES: u64 = 1 << 20;

/// RAM, in both forms.
const RAM: u64 = 1;

/// What was handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// RAM.
    pub memory: Vec<Range<u64>>,
    /// The bundle: the first module.
    pub bundle: Option<Range<u64>>,
    /// Where the root of ACPI's tables is, if the loader says.
    pub rsdp: Option<u64>,
}

/// The loader is none that Trivet knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHandover {
    /// Neither PVH nor multiboot2.
    Unknown,
    /// It ends early, or tells nothing of memory.
    Broken,
}

impl core::fmt::Display for NoHandover {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "the loader is neither PVH nor multiboot2",
            Self::Broken => "the loader does not tell what memory there is",
        })
    }
}

impl Handover {
    /// Reads it; the arguments are those of `trivet_boot`: EAX and EBX as the loader left them.
    pub fn read(p: &impl Physical, magic: u32, at: u64) -> Result<Self, NoHandover> {
        let found = if magic == MULTIBOOT2 {
            multiboot2(p, at)
        } else if p.word(at).map(u64::from) == Some(START_INFO) {
            start_info(p, at)
        } else {
            return Err(NoHandover::Unknown);
        };
        found.filter(|found| !found.memory.is_empty()).ok_or(NoHandover::Broken)
    }
}

/// A range of so many bytes. `None` if it is empty or beyond all addresses.
fn range(start: u64, size: u64) -> Option<Range<u64>> {
    (size > 0).then_some(start..start.checked_add(size)?)
}

/// RAM, from a map of entries of `each` bytes, which begin alike in both forms: start, size, kind.
fn ram(map: &[u8], each: usize) -> Vec<Range<u64>> {
    let ram = map.chunks_exact(each).take(MOST_ENTRIES).filter(|entry| number(entry, 16) == Some(RAM));
    ram.filter_map(|entry| range(long(entry, 0)?, long(entry, 8)?)).collect()
}

fn start_info(p: &impl Physical, at: u64) -> Option<Handover> {
    // Version 1 and on: 56 bytes. Version 0 has no memory map.
    let info = p.bytes(at, 56)?;
    if number(info, 4)? == 0 {
        return None;
    }
    let entries = usize::try_from(number(info, 48)?).ok()?.min(MOST_ENTRIES);
    let map = p.bytes(long(info, 40)?, entries * 24)?;
    let bundle = match number(info, 12)? {
        0 => None,
        _ => {
            let module = p.bytes(long(info, 16)?, 32)?;
            range(long(module, 0)?, long(module, 8)?)
        }
    };
    Some(Handover { memory: ram(map, 24), bundle, rsdp: long(info, 32).filter(|rsdp| *rsdp != 0) })
}

fn multiboot2(p: &impl Physical, at: u64) -> Option<Handover> {
    let size = u64::from(p.word(at)?).min(MOST_BYTES);
    let info = p.bytes(at, usize::try_from(size).ok()?)?;
    let mut found = Handover::default();
    let mut next = 8;
    // The last tag is 0; information that ends without one ends all the same.
    while let (Some(kind), Some(size)) = (number(info, next), number(info, next + 4)) {
        let size = usize::try_from(size).ok().filter(|size| *size >= 8)?;
        let tag = info.get(next..next.checked_add(size)?)?;
        match kind {
            0 => break,
            3 if found.bundle.is_none() => {
                let (start, end) = (number(tag, 8)?, number(tag, 12)?);
                found.bundle = range(start, end.saturating_sub(start));
            }
            6 => {
                let each = usize::try_from(number(tag, 8)?).ok().filter(|each| *each >= 20)?;
                found.memory = ram(tag.get(16..)?, each);
            }
            // A copy of the root: in the information itself. The newer one comes later or alone.
            14 | 15 => found.rsdp = at.checked_add(next as u64 + 8),
            _ => {}
        }
        next = next.checked_add(size)?.checked_next_multiple_of(8)?;
    }
    Some(found)
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
