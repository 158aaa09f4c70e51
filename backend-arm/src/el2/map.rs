//! Trivet's own translations, planned: everything where it is (DDI 0487, D8: EL2, one range, 4 KiB granule, 39 bits).
//!
//! RAM is cacheable, everything else is device memory; nothing but the image can be executed. 1 GiB where a whole GiB is
//! one of these, else 2 MiB. Pure.

use alloc::vec::Vec;
use core::ops::Range;

/// What is mapped: from 0 to here. A machine's RAM and devices beyond it are left alone.
pub const SPAN: u64 = 512 << 30;
const GIB: u64 = 1 << 30;
const BLOCK: u64 = 2 << 20;

/// A table of translations.
#[derive(Clone, Debug)]
#[repr(C, align(4096))]
pub struct Table(pub [u64; 512]);

impl Table {
    /// One that translates nothing.
    pub const EMPTY: Self = Self([0; 512]);
}

/// Attributes of a block: valid, MAIR index, readable and writable at EL2 alone (AP\[1\] is 1), used.
const VALID: u64 = 1;
const ATTRIBUTES: u64 = 1 << 10 | 1 << 6 | VALID;
/// MAIR_EL2's attribute 1 (`start.S`), inner shareable.
const MEMORY: u64 = 1 << 2 | 3 << 8;
const NEVER_EXECUTE: u64 = 1 << 54;
/// An entry that points at a table.
const TABLE: u64 = 2 | VALID;

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMap {
    /// RAM has more edges inside of a GiB than there are tables for.
    TooRagged,
    /// The image lies outside of what the device tree calls memory.
    Outside,
}

impl core::fmt::Display for NoMap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooRagged => "the machine's memory is in too many pieces",
            Self::Outside => "the image was not loaded into what the device tree calls memory",
        })
    }
}

/// The parts of RAM that can be mapped: whole blocks of 2 MiB below [`SPAN`], in order, adjacent ones together.
#[must_use]
pub fn usable(memory: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = memory.to_vec();
    all.sort_by_key(|r| r.start);
    let mut whole: Vec<Range<u64>> = Vec::new();
    for r in all {
        let r = r.start..r.end.min(SPAN);
        match whole.last_mut() {
            Some(last) if r.start <= last.end => last.end = last.end.max(r.end),
            _ => whole.push(r),
        }
    }
    for r in &mut whole {
        *r = r.start.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)..r.end / BLOCK * BLOCK;
    }
    whole.retain(|r| r.start < r.end);
    whole
}

/// Writes `root` and as many of `tables` as it takes. `memory` is [`usable`]; `image` is where Trivet is; `at` is where
/// `tables` are.
pub fn plan(
    memory: &[Range<u64>],
    image: &Range<u64>,
    root: &mut Table,
    tables: &mut [Table],
    at: u64,
) -> Result<(), NoMap> {
    if !memory.iter().any(|r| r.start <= image.start && image.end <= r.end) {
        return Err(NoMap::Outside);
    }
    let mut spare = (at..).step_by(size_of::<Table>()).zip(tables);
    for (entry, gib) in root.0.iter_mut().zip((0..).step_by(GIB as usize)) {
        *entry = match leaf(memory, image, gib..gib + GIB) {
            Some(leaf) => leaf,
            None => {
                let (at, table) = spare.next().ok_or(NoMap::TooRagged)?;
                for (entry, block) in table.0.iter_mut().zip((gib..).step_by(BLOCK as usize)) {
                    // Edges of memory are multiples of a block, and so a block of the image is memory.
                    *entry = leaf(memory, image, block..block + BLOCK).unwrap_or(block | ATTRIBUTES | MEMORY);
                }
                at | TABLE
            }
        };
    }
    Ok(())
}

/// The leaf for `area`, if it is all of one kind.
fn leaf(memory: &[Range<u64>], image: &Range<u64>, area: Range<u64>) -> Option<u64> {
    let touches = |r: &Range<u64>| r.start < area.end && area.start < r.end;
    if touches(image) {
        return None;
    }
    if memory.iter().any(|r| r.start <= area.start && area.end <= r.end) {
        return Some(area.start | ATTRIBUTES | MEMORY | NEVER_EXECUTE);
    }
    (!memory.iter().any(touches)).then_some(area.start | ATTRIBUTES | NEVER_EXECUTE)
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, GIB, NEVER_EXECUTE, NoMap, Range, SPAN, Table, plan, usable};

    const IMAGE: Range<u64> = 0x4020_0000..0x4038_0000;
    /// As [`Table`]s lie in memory.
    const AT: u64 = 0x4030_0000;

    /// What is at an address: attributes' index, and whether it can be executed.
    fn look(root: &Table, tables: &[Table], at: u64) -> (u64, u64, bool) {
        let mut entry = root.0[(at / GIB) as usize];
        let mut size = GIB;
        if entry & 2 != 0 {
            let table = (entry & 0xffff_ffff_f000) - AT;
            entry = tables[(table / 4096) as usize].0[(at % GIB / BLOCK) as usize];
            size = BLOCK;
        }
        assert_eq!(entry & 3, 1, "a block");
        assert_eq!(entry >> 10 & 1, 1, "the access flag");
        let out = (entry & 0xffff_ffff_f000) + at % size;
        (out, entry >> 2 & 7, entry & NEVER_EXECUTE == 0)
    }

    #[test]
    fn everything_is_where_it_is_and_of_its_kind() {
        let memory = usable(&[const { 0x4000_0000..0x1_5000_0000 }]);
        let (mut root, mut tables) = (Table::EMPTY, vec![Table::EMPTY; 2]);
        plan(&memory, &IMAGE, &mut root, &mut tables, AT).unwrap();
        for (at, kind, code) in [
            (0, 0, false),
            (0x900_0018, 0, false),
            (0x4000_0000, 1, false),
            (0x401f_ffff, 1, false),
            (0x4020_0000, 1, true),
            (0x4037_ffff, 1, true),
            (0x4040_0000, 1, false),
            (0x8123_4567, 1, false),
            (0x1_4fff_ffff, 1, false),
            (0x1_5000_0000, 0, false),
            (SPAN - 1, 0, false),
        ] {
            assert_eq!(look(&root, &tables, at), (at, kind, code), "{at:#x}");
        }
    }

    #[test]
    fn memory_is_used_by_whole_blocks_in_order() {
        let odd =
            [0x6010_0000..0x7000_0000, 0x4000_0000..0x5000_0001, 0x5000_0001..0x6000_0000, SPAN - BLOCK..u64::MAX];
        assert_eq!(usable(&odd), [0x4000_0000..0x6000_0000, 0x6020_0000..0x7000_0000, SPAN - BLOCK..SPAN]);
        assert!(usable(&[const { 0x4000_1000..0x4020_0000 }]).is_empty());
        let inside = [const { 0..4 * GIB }, const { GIB..2 * GIB }];
        assert_eq!(usable(&inside), [const { 0..4 * GIB }], "one range within another");
    }

    #[test]
    fn a_machine_that_cannot_be_mapped_is_refused() {
        let ragged: Vec<_> = (0..4).map(|n| (n + 1) * GIB..(n + 1) * GIB + GIB / 2).collect();
        let (mut root, mut tables) = (Table::EMPTY, vec![Table::EMPTY; 3]);
        assert_eq!(plan(&ragged, &IMAGE, &mut root, &mut tables, AT), Err(NoMap::TooRagged));
        assert_eq!(plan(&ragged[..3], &IMAGE, &mut root, &mut tables, AT), Ok(()));
        assert_eq!(plan(&ragged[1..], &IMAGE, &mut root, &mut tables, AT), Err(NoMap::Outside));
    }
}
