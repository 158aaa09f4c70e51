//! The memory map that a guest is told (E820): which addresses are RAM, and which not to touch.

use core::ops::Range;

use heapless::Vec;
use hv_core::addr::Gpa;

use super::layout;

/// More entries than any map has.
const MAX: usize = 12;

/// What a range is (ACPI specification, "Address Range Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To be used.
    Ram = 1,
    /// Not to be used.
    Reserved = 2,
    /// The ACPI tables; RAM once they have been read.
    Acpi = 3,
}

/// A range of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First byte, and first byte after it.
    pub range: Range<Gpa>,
    /// What it is.
    pub kind: Kind,
}

/// The map of a VM with so much RAM, of which `reserved` is not to be used and `acpi` holds the tables; each of these lies in one
/// piece of RAM, in the order of addresses, or is left out. `shared` lies beside the RAM. Sorted, without overlaps.
#[must_use]
pub fn of(ram: u64, reserved: &[Range<Gpa>], acpi: Range<Gpa>, shared: Option<Range<Gpa>>) -> Vec<Entry, MAX> {
    let mut map = Vec::new();
    let mut add = |range: Range<Gpa>, kind| {
        if range.start < range.end {
            // There is room for twice as many as are ever given.
            let _ = map.push(Entry { range, kind });
        }
    };
    let marked = || reserved.iter().map(|range| (range, Kind::Reserved)).chain([(&acpi, Kind::Acpi)]);
    for piece in layout::ram(ram) {
        let mut at = piece.start;
        for (range, kind) in marked().filter(|(range, _)| piece.start <= range.start && range.end <= piece.end) {
            add(at..range.start, Kind::Ram);
            add(range.clone(), kind);
            at = at.max(range.end);
        }
        add(at..piece.end, Kind::Ram);
    }
    if let Some(shared) = shared {
        add(shared, Kind::Reserved);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::{Entry, Kind, of};
    use hv_core::addr::Gpa;
    use proptest::prelude::{Strategy, any};
    use proptest::{prop_assert, prop_assert_eq, proptest};

    const LEGACY: [core::ops::Range<Gpa>; 1] = [Gpa(0xa_0000)..Gpa(0x10_0000)];

    fn entry(start: u64, end: u64, kind: Kind) -> Entry {
        Entry { range: Gpa(start)..Gpa(end), kind }
    }

    #[test]
    fn ram_goes_on_behind_the_hole() {
        let shared = Some(Gpa(0x2_0000_0000)..Gpa(0x2_0020_0000));
        let map = of(5 << 30, &LEGACY, Gpa(0x200_0000)..Gpa(0x200_2000), shared);
        let expected = [
            entry(0, 0xa_0000, Kind::Ram),
            entry(0xa_0000, 0x10_0000, Kind::Reserved),
            entry(0x10_0000, 0x200_0000, Kind::Ram),
            entry(0x200_0000, 0x200_2000, Kind::Acpi),
            entry(0x200_2000, 0xc000_0000, Kind::Ram),
            entry(0x1_0000_0000, 0x1_8000_0000, Kind::Ram),
            entry(0x2_0000_0000, 0x2_0020_0000, Kind::Reserved),
        ];
        assert_eq!(map[..], expected);
    }

    proptest! {
        /// Whatever the sizes: sorted, apart, and every byte of RAM is in it once.
        #[test]
        fn every_byte_is_told_once(
            ram in (any::<u64>(), 0..44_u32).prop_map(|(bytes, shift)| bytes >> (20 + shift) << 12),
            at in (any::<u64>(), 0..30_u32).prop_map(|(at, shift)| (at >> (32 + shift) << 12) + 0x10_0000),
        ) {
            let acpi = Gpa(at)..Gpa(at + 0x2000);
            let map = of(ram, &LEGACY, acpi, None);
            for pair in map.windows(2) {
                prop_assert!(pair[0].range.end <= pair[1].range.start);
            }
            let total: u64 = map.iter().map(|entry| entry.range.end.0 - entry.range.start.0).sum();
            prop_assert_eq!(total, ram);
            let hole = crate::guest::layout::HOLE;
            prop_assert!(map.iter().all(|e| e.range.end <= hole.start || e.range.start >= hole.end));
        }
    }
}
