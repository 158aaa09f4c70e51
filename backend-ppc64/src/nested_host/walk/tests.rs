use super::*;
use std::cell::Cell;
use std::collections::HashMap;

/// L1's memory: what is not written is a hole, what lies at 1 TiB and above is no memory.
#[derive(Default)]
struct Memory {
    words: HashMap<u64, u64>,
    reads: Cell<u32>,
}

impl Memory {
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemError> {
        self.reads.set(self.reads.get() + 1);
        if at.0 >> 40 != 0 {
            return Err(MemError::BadAddress);
        }
        into.copy_from_slice(&self.words.get(&at.0).copied().unwrap_or(0).to_be_bytes());
        Ok(())
    }

    fn walk(&self, tree: u64, at: u64) -> Result<Found, Missed> {
        walk(&|at, into| self.read(at, into), tree, Gpa(at)).map(|(found, _)| found)
    }
}

const ROOT_AT: u64 = 0x10_0000;
const TREE: u64 = HOST_RADIX | crate::radix::TREE_SIZE_52 | ROOT_AT | 13;
/// An address with another index at each level: 3, 5, 7, 9.
const AT: u64 = 3 << 39 | 5 << 30 | 7 << 21 | 9 << 12 | 0xabc;
const RWX: u64 = READ | WRITE | EXEC;

/// Tables at 2, 3 and 4 MiB, and these words in their entries for [`AT`].
fn memory(words: [u64; 4]) -> Memory {
    let places = [ROOT_AT + 3 * 8, 0x20_0000 + 5 * 8, 0x30_0000 + 7 * 8, 0x40_0000 + 9 * 8];
    Memory { words: places.into_iter().zip(words).collect(), reads: Cell::new(0) }
}

const fn table(at: u64, bits: u64) -> u64 {
    VALID | at | bits
}

fn found(from: u64, order: u8, prot: Prot, rc: Rc) -> Result<Found, Missed> {
    Ok(Found { from: Gpa(from), order: Order::new(order).unwrap(), prot, rc })
}

#[test]
fn pages_of_every_size_are_found() {
    let leaf = |frame: u64| VALID | LEAF | frame | R | C | RWX;
    let upper = [table(0x20_0000, 9), table(0x30_0000, 9), table(0x40_0000, 9)];
    let small = memory([upper[0], upper[1], upper[2], leaf(0x7_7000)]);
    assert_eq!(small.walk(TREE, AT), found(0x7_7abc, 0, Prot::all(), Rc::all()));
    assert_eq!(small.reads.get(), 4, "each level is read once");
    // 64 KiB: five index bits, so that 9 << 12 is page 0 of the 64 KiB and offset 0x9abc.
    let mut medium = memory([upper[0], upper[1], table(0x40_0000, 5), 0]);
    medium.words.insert(0x40_0000, leaf(0x7_0000));
    assert_eq!(medium.walk(TREE, AT), found(0x7_9abc, 4, Prot::all(), Rc::all()));
    let large = memory([upper[0], upper[1], leaf(0x60_0000), 0]);
    assert_eq!(large.walk(TREE, AT), found(0x60_9abc, 9, Prot::all(), Rc::all()));
    let giant = memory([upper[0], leaf(0x4000_0000), 0, 0]);
    assert_eq!(giant.walk(TREE, AT), found(0x4000_0000 | 7 << 21 | 9 << 12 | 0xabc, 18, Prot::all(), Rc::all()));
}

#[test]
fn rights_and_notes_are_those_of_the_leaf() {
    for (bits, prot, rc) in [
        (READ | R, Prot::READ, Rc::REFERENCED),
        (READ | WRITE, Prot::READ | Prot::WRITE, Rc::empty()),
        (EXEC | C, Prot::EXEC, Rc::CHANGED),
        (0, Prot::empty(), Rc::empty()),
    ] {
        let m = memory([table(0x20_0000, 9), table(0x30_0000, 9), table(0x40_0000, 9), VALID | LEAF | 0x7_7000 | bits]);
        assert_eq!(m.walk(TREE, AT), found(0x7_7abc, 0, prot, rc));
    }
}

#[test]
fn what_is_not_there_is_missed_at_any_level() {
    let upper = [table(0x20_0000, 9), table(0x30_0000, 9), table(0x40_0000, 9)];
    assert_eq!(Memory::default().walk(TREE, AT), Err(Missed::Hole));
    assert_eq!(memory([upper[0], upper[1], upper[2], 0]).walk(TREE, AT), Err(Missed::Hole));
    // A leaf that is not valid is none.
    let invalid = LEAF | 0x7_7000 | RWX;
    assert_eq!(memory([upper[0], upper[1], upper[2], invalid]).walk(TREE, AT), Err(Missed::Hole));
    assert_eq!(memory(upper_and_leaf()).walk(TREE, 1 << 52 | AT), Err(Missed::Hole), "beyond the tree");
    let away = memory([table(1 << 40, 9), 0, 0, 0]).walk(TREE, AT);
    assert_eq!(away, Err(Missed::Memory(Gpa(1 << 40 | 5 << 3), MemError::BadAddress)));
}

fn upper_and_leaf() -> [u64; 4] {
    [table(0x20_0000, 9), table(0x30_0000, 9), table(0x40_0000, 9), VALID | LEAF | 0x7_7000 | R | RWX]
}

#[test]
fn r26_trees_of_other_forms_are_refused() {
    let upper = [table(0x20_0000, 9), table(0x30_0000, 9), table(0x40_0000, 9)];
    let leaf = VALID | LEAF | R | RWX;
    for (tree, why) in [
        (TREE & !(1 << 5), "51 bits"),
        (TREE & !(3 << 61), "31 bits and some"),
        (TREE - 1, "a root of 12 bits"),
        (TREE | 0x1f, "a root of 31 bits"),
        (TREE | 0x8000, "a root off its alignment"),
    ] {
        assert_eq!(memory(upper_and_leaf()).walk(tree, AT), Err(Missed::Malformed), "{why}");
    }
    for (words, why) in [
        ([leaf, 0, 0, 0], "a leaf in the root"),
        ([table(0x20_0000, 13), 0, 0, 0], "a second level of 13 bits"),
        ([table(0x20_0000, 0), 0, 0, 0], "a second level of no bits"),
        ([table(0x20_0800, 9), 0, 0, 0], "a table off its alignment"),
        ([upper[0], leaf | 1 << 29, 0, 0], "1 GiB off its alignment"),
        ([upper[0], upper[1], leaf | 1 << 20, 0], "2 MiB off its alignment"),
        ([upper[0], upper[1], table(0x40_0000, 8), 0], "a last level of 8 bits"),
        ([upper[0], upper[1], upper[2], table(0x50_0000, 9)], "a fifth level"),
    ] {
        assert_eq!(memory(words).walk(TREE, AT), Err(Missed::Malformed), "{why}");
    }
    let mut medium = memory([upper[0], upper[1], table(0x40_0000, 5), 0]);
    medium.words.insert(0x40_0000, leaf | 0x7_1000);
    assert_eq!(medium.walk(TREE, AT), Err(Missed::Malformed), "64 KiB off its alignment");
}

#[test]
fn a_walk_goes_on_where_the_last_one_ended_and_nowhere_else() {
    let [held, other] = [1, 2].map(|n| VmTag(core::num::NonZeroU16::new(n).unwrap()));
    let m = memory(upper_and_leaf());
    let (_, last) = walk(&|at, into| m.read(at, into), TREE, Gpa(AT)).unwrap();
    assert_eq!(last.slot(Gpa(AT)), Gpa(0x40_0000 + 9 * 8));
    let mut near = Near::default();
    assert!(near.table(held, 7, Gpa(AT)).is_none());
    near.keep(held, 7, Gpa(AT), last);
    let mut table = |held, mark, at| near.table(held, mark, at).map(|known| known.table);
    for at in [AT, AT & !0x1f_ffff, AT | 0x1f_ffff] {
        assert_eq!(table(held, 7, Gpa(at)), Some(last), "{at:#x}: of the same 2 MiB");
    }
    for at in [AT - 0x20_0000, AT + 0x20_0000, AT | 1 << 51, u64::MAX] {
        assert_eq!(table(held, 7, Gpa(at)), None, "{at:#x}");
    }
    assert_eq!(table(held, 8, Gpa(AT)), None, "the tables have changed");
    assert_eq!(table(other, 7, Gpa(AT)), None, "another guest's");
}

#[test]
fn the_partition_table_is_bounded() {
    let table = PartitionTable::new(0x1234_0000 | 4).unwrap();
    assert_eq!((table.at(0), table.at(1)), (None, Some(Gpa(0x1234_0010))), "0 is L1 itself");
    assert_eq!((table.at(4095), table.at(4096), table.at(u32::MAX)), (Some(table.last()), None, None));
    assert_eq!(PartitionTable::new(0x1234_0000).unwrap().at(256), None);
    for register in [0x1234_0000 | 5, 0x1234_0000 | 31, 0x1234_0020, 1 << 60, u64::MAX] {
        assert_eq!(PartitionTable::new(register), None, "{register:#x}");
    }
    assert_eq!(PartitionTable::of(0), None);
    let high = PartitionTable::of(0x0fff_ffff_ffff_f000 | 4).unwrap();
    assert_eq!(high.at(4095), Some(high.last()));
}

#[test]
fn partitions_are_those_of_radix_guests() {
    let entry = |tree: u64, second: u64| u128::from(tree) << 64 | u128::from(second);
    assert_eq!(
        Partition::new(entry(TREE, 1 << 63 | 0x4_0000 | 12)),
        Some(Partition { tree: TREE, processes: 1 << 63 | 0x4_0000 | 12 })
    );
    // What hardware must not see of doubleword 1 is left out.
    assert_eq!(Partition::new(entry(TREE, u64::MAX - 31)).unwrap().processes, 0x8fff_ffff_ffff_f000);
    for (tree, second) in [(0, 0), (TREE, 0), (TREE & !HOST_RADIX, GUEST_RADIX), (TREE, GUEST_RADIX | 25)] {
        assert_eq!(Partition::new(entry(tree, second)), None, "{tree:#x} {second:#x}");
    }
}
