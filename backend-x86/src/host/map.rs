//! Trivet's own translations, planned: everything where it is (Intel SDM vol. 3A, 4.5; AMD APM vol. 2, 5.3). Four levels, of
//! which the upper two are there from the start.
//!
//! RAM is write-back, everything else uncacheable; firmware's MTRRs have a say in either. Nothing but the image's blocks
//! can be executed, the first among them: CPUs start there. 1 GiB where a whole GiB is one of these and the processor has such
//! pages, else 2 MiB. A block that is partly RAM passes for RAM: no device of ours shares one with it. Pure.

use alloc::vec::Vec;
use core::ops::Range;

/// What can be mapped: from 0 to here. A machine's RAM beyond it is left alone.
pub const SPAN: u64 = 512 << 30;
/// What is mapped in any case: devices are here.
const LOW: u64 = 4 << 30;
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

/// An entry: present, writable, used and written to.
const ENTRY: u64 = 1 << 6 | 1 << 5 | 1 << 1 | 1;
/// It translates, and does not point at a table.
const LEAF: u64 = 1 << 7;
/// PCD and PWT: PAT's entry 3, uncacheable after a reset.
const DEVICE: u64 = 1 << 4 | 1 << 3;
const NEVER_EXECUTE: u64 = 1 << 63;

/// Whether the processor has pages of 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Largest {
    /// It has not.
    Mib2,
    /// It has.
    Gib,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMap {
    /// No heap for another table.
    NoHeap,
    /// The image lies outside of what the loader calls memory.
    Outside,
}

impl core::fmt::Display for NoMap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoHeap => "there is no heap for the map of so much memory",
            Self::Outside => "the image was not loaded into what the loader calls memory",
        })
    }
}

/// The parts of RAM that are used: from the first MiB, of which firmware and starting CPUs have the use, to [`SPAN`]; in order,
/// adjacent ones together.
#[must_use]
pub fn usable(memory: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = memory.iter().map(|r| r.start.max(1 << 20)..r.end.min(SPAN)).collect();
    all.retain(|r| r.start < r.end);
    all.sort_unstable_by_key(|r| r.start);
    let mut whole: Vec<Range<u64>> = Vec::new();
    for r in all {
        match whole.last_mut() {
            Some(last) if r.start <= last.end => last.end = last.end.max(r.end),
            _ => whole.push(r),
        }
    }
    whole
}

/// Writes `directory`, the table of 1 GiB entries. `memory` is [`usable`], `image` is where Trivet is; `spare` makes a table
/// and says where it is.
pub fn plan<'t>(
    memory: &[Range<u64>],
    image: &Range<u64>,
    largest: Largest,
    directory: &mut Table,
    mut spare: impl FnMut() -> Option<(u64, &'t mut Table)>,
) -> Result<(), NoMap> {
    if !memory.iter().any(|r| r.start <= image.start && image.end <= r.end) {
        return Err(NoMap::Outside);
    }
    let top = memory.iter().map(|r| r.end).fold(LOW, u64::max);
    for (entry, gib) in directory.0.iter_mut().zip((0..top).step_by(GIB as usize)) {
        *entry = match leaf(memory, image, gib..gib + GIB) {
            Some(leaf) if largest == Largest::Gib => leaf,
            _ => {
                let (at, table) = spare().ok_or(NoMap::NoHeap)?;
                for (entry, block) in table.0.iter_mut().zip((gib..).step_by(BLOCK as usize)) {
                    *entry = leaf(memory, image, block..block + BLOCK).unwrap_or(block | ENTRY | LEAF);
                }
                at | ENTRY
            }
        };
    }
    Ok(())
}

/// The leaf for `area`. `None` if it is of more than one kind, or has code.
fn leaf(memory: &[Range<u64>], image: &Range<u64>, area: Range<u64>) -> Option<u64> {
    let touches = |r: &Range<u64>| r.start < area.end && area.start < r.end;
    if touches(image) {
        return None;
    }
    let plain = area.start | ENTRY | LEAF | NEVER_EXECUTE;
    if memory.iter().any(|r| r.start <= area.start && area.end <= r.end) {
        return Some(plain);
    }
    match memory.iter().any(touches) {
        // RAM's edge.
        true if area.end - area.start == BLOCK => Some(plain),
        true => None,
        false => Some(plain | DEVICE),
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, DEVICE, ENTRY, GIB, LEAF, Largest, NEVER_EXECUTE, NoMap, Range, SPAN, Table, plan, usable};

    const IMAGE: Range<u64> = 0x10_0000..0x38_0000;

    /// As tables lie in memory.
    const AT: u64 = 0x30_0000;

    struct Made {
        directory: Table,
        tables: Vec<Table>,
        used: usize,
    }

    fn made(memory: &[Range<u64>], largest: Largest) -> Made {
        let (mut directory, mut tables, mut used) = (Table::EMPTY, vec![Table::EMPTY; 8], 0);
        let mut spare = (AT..).step_by(size_of::<Table>()).zip(&mut tables).inspect(|_| used += 1);
        plan(memory, &IMAGE, largest, &mut directory, || spare.next()).unwrap();
        drop(spare);
        Made { directory, tables, used }
    }

    impl Made {
        /// What is at an address: where it leads, whether it is RAM, whether it can be executed.
        fn look(&self, at: u64) -> Option<(u64, bool, bool)> {
            let mut entry = self.directory.0[(at / GIB) as usize];
            let mut size = GIB;
            if entry & LEAF == 0 && entry != 0 {
                assert_eq!(entry & NEVER_EXECUTE, 0, "what is below says it");
                let table = (entry & !0xfff) - AT;
                entry = self.tables[(table / 4096) as usize].0[(at % GIB / BLOCK) as usize];
                size = BLOCK;
            }
            if entry == 0 {
                return None;
            }
            assert_eq!(entry & (ENTRY | LEAF), ENTRY | LEAF);
            let out = (entry & 0xf_ffff_ffff_f000) + at % size;
            Some((out, entry & DEVICE == 0, entry & NEVER_EXECUTE == 0))
        }
    }

    #[test]
    fn everything_is_where_it_is_and_of_its_kind() {
        let memory = usable(&[0..0x9_fc00, 0x10_0000..0xbffe_0000, 0x1_0000_0000..0x1_5000_0000]);
        for (largest, tables) in [(Largest::Gib, 3), (Largest::Mib2, 6)] {
            let made = made(&memory, largest);
            assert_eq!(made.used, tables);
            for (at, ram, code) in [
                (0x1000, true, true),
                (0x10_0000, true, true),
                (0x37_ffff, true, true),
                (0x40_0000, true, false),
                (0x8123_4567, true, false),
                (0xbffd_ffff, true, false),
                (0xbfff_0000, true, false),
                (0xc000_0000, false, false),
                (0xfee0_0020, false, false),
                (0x1_4fff_ffff, true, false),
                (0x1_5000_0000, false, false),
            ] {
                assert_eq!(made.look(at), Some((at, ram, code)), "{at:#x}");
            }
            assert_eq!(made.look(0x1_8000_0000), None, "nothing is there");
        }
    }

    #[test]
    fn memory_is_used_from_the_first_mib_in_order() {
        let odd = [
            0x6010_0000..0x7000_0001,
            0..0x9_f000,
            0x8_0000..0x5000_0001,
            0x5000_0001..0x6000_0000,
            SPAN - 1..u64::MAX,
        ];
        assert_eq!(usable(&odd), [0x10_0000..0x6000_0000, 0x6010_0000..0x7000_0001, SPAN - 1..SPAN]);
        assert!(usable(&[const { 0..0x10_0000 }]).is_empty());
        let backwards = Range { start: 0x4000_0000, end: 0x2000_0000 };
        assert!(usable(&[backwards]).is_empty());
    }

    #[test]
    fn a_machine_that_cannot_be_mapped_is_refused() {
        let memory = usable(&[const { 0..0x4000_0000 }]);
        let none = || None::<(u64, &mut Table)>;
        assert_eq!(plan(&memory, &IMAGE, Largest::Gib, &mut Table::EMPTY.clone(), none), Err(NoMap::NoHeap));
        let high = usable(&[const { 0x20_0000..0x4000_0000 }]);
        assert_eq!(plan(&high, &IMAGE, Largest::Gib, &mut Table::EMPTY.clone(), none), Err(NoMap::Outside));
    }
}
