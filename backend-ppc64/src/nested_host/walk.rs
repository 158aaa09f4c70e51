//! L1's own tables, in its memory: the partition table, and the tree of one L2 (Power ISA v3.0B, Book III 5.7.6 and 5.7.10).

use hv_core::addr::{Gpa, Order, PAGE_SHIFT, Pfn};
use hv_core::isa::VmTag;
use hv_core::radix::format::{Prot, Rc};
use hv_core::vcpu::exit::Access;
use hv_core::vcpu::services::MemError;

/// Reads L1's memory.
pub type Read<'a> = dyn Fn(Gpa, &mut [u8]) -> Result<(), MemError> + 'a;

/// Largest size code that L1 may give: 2^(12 + 4) bytes of entries of 16.
const MAX_SIZE_CODE: u64 = 4;

const HOST_RADIX: u64 = 1 << 63;
const GUEST_RADIX: u64 = 1 << 63;
/// The size of a tree of 52 bits, in its two pieces.
const TREE_SIZE: u64 = 3 << 61 | 7 << 5;
const SIZE_CODE: u64 = 0x1f;
const ROOT: u64 = 0x0fff_ffff_ffff_ff00;
const PROCESS_TABLE: u64 = 0x0fff_ffff_ffff_f000;
/// Largest size code of a process table.
const MAX_PROCESS_TABLE: u64 = 24;

const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
const FRAME: u64 = 0x01ff_ffff_ffff_f000;
const R: u64 = 0x100;
const C: u64 = 0x80;
const READ: u64 = 4;
const WRITE: u64 = 2;
const EXEC: u64 = 1;
/// Bits of a guest real address.
const BITS: u32 = 52;

/// Where L1's partition table is: the register's image, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionTable(u64);

/// An L2's entry of the partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The root of its tree, as L1 wrote it.
    pub tree: u64,
    /// Its process table, at an address of L2's own: what hardware may be given for doubleword 1.
    pub processes: u64,
}

/// What L1's tree says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The address in L1.
    pub from: Gpa,
    /// How large L1's page is.
    pub order: Order,
    /// What L1 allows.
    pub prot: Prot,
    /// What L1 has noted.
    pub rc: Rc,
}

/// Why it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// There is no entry.
    Hole,
    /// The tree is not of a form that the architecture knows.
    Malformed,
    /// The table at this address in L1 is not to be had.
    Memory(Gpa, MemError),
}

impl PartitionTable {
    /// From `H_SET_PARTITION_TABLE`'s argument; `None` if it is too large, or lies where no table can.
    #[must_use]
    pub const fn new(register: u64) -> Option<Self> {
        let fits = register & !(PROCESS_TABLE | SIZE_CODE) == 0 && register & SIZE_CODE <= MAX_SIZE_CODE;
        if fits { Some(Self(register)) } else { None }
    }

    /// The table by its register's image, of which [`PartitionTable::new`] was asked; 0 is none.
    #[must_use]
    pub const fn of(image: u64) -> Option<Self> {
        if image == 0 { None } else { Self::new(image) }
    }

    /// Its register's image.
    #[must_use]
    pub const fn image(self) -> u64 {
        self.0
    }

    /// The address of its last entry.
    #[must_use]
    pub const fn last(self) -> Gpa {
        Gpa((self.0 & PROCESS_TABLE).saturating_add((self.entries() - 1) * 16))
    }

    const fn entries(self) -> u64 {
        1 << (self.0 & SIZE_CODE) << 8
    }

    /// Where the entry of `lpid` is: never that of 0, which is L1 itself.
    #[must_use]
    pub const fn at(self, lpid: u32) -> Option<Gpa> {
        let lpid = lpid as u64;
        if lpid == 0 || lpid >= self.entries() { None } else { Gpa(self.0 & PROCESS_TABLE).checked_add(lpid * 16) }
    }
}

impl Partition {
    /// The address in L2 of the entry of a process; `None` if the table has none for it.
    #[must_use]
    pub const fn process(self, pid: u32) -> Option<Gpa> {
        let size = 1_u64 << (self.processes & SIZE_CODE) << PAGE_SHIFT;
        let at = pid as u64 * 16;
        if at < size { Gpa(self.processes & PROCESS_TABLE).checked_add(at) } else { None }
    }

    /// From the entry's bytes; `None` if it is not that of a radix guest whose process table can be one.
    #[must_use]
    pub const fn new(entry: u128) -> Option<Self> {
        let (tree, second) = ((entry >> 64) as u64, entry as u64);
        let fits = tree & HOST_RADIX != 0 && second & GUEST_RADIX != 0 && second & SIZE_CODE <= MAX_PROCESS_TABLE;
        let processes = second & (GUEST_RADIX | PROCESS_TABLE | SIZE_CODE);
        if fits { Some(Self { tree, processes }) } else { None }
    }
}

/// What a tree has to allow, and to have noted, for an access.
#[must_use]
pub const fn needed(access: Access) -> (Prot, Rc) {
    match access {
        Access::Read => (Prot::READ, Rc::REFERENCED),
        Access::Write => (Prot::WRITE, Rc::all()),
        Access::Fetch => (Prot::EXEC, Rc::REFERENCED),
    }
}

/// A table of L1's tree, of a size and at a place that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    base: u64,
    /// Index bits.
    bits: u32,
    /// Address bits below the index.
    shift: u32,
    level: usize,
}

/// What an entry of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another table, further down.
    Down(Table),
    /// L1's page.
    Page(Found),
}

/// The table where a vCPU's last walk ended, so that the next one may begin there. As a processor's walk caches are, it is
/// good as long as L1 has not said that its tables have changed: as long as the sequence of the derived tables is the same.
/// So is the frame that L1's second stage has for it, for whoever asks for the sequence inside of the guard in which the frame
/// is read: what takes a frame away from a second stage raises the sequence, and then waits for such guards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Near(Option<(VmTag, u64, u64, Known)>);

/// A table of L1's tree, and its frame once somebody has looked for that.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The table.
    pub table: Table,
    /// Its frame: a table whose entries are leaves lies in one.
    pub frame: Option<Pfn>,
}

impl Near {
    /// The table that has `at`'s entry in the tree of this L2; `mark` is the sequence's.
    #[inline]
    #[must_use]
    pub fn table(&mut self, held: VmTag, mark: u64, at: Gpa) -> Option<&mut Known> {
        let (tag, seen, block, known) = self.0.as_mut()?;
        (*tag == held && *seen == mark && *block == known.table.block(at)).then_some(known)
    }

    /// Keeps the table where the walk for `at` ended.
    pub fn keep(&mut self, held: VmTag, mark: u64, at: Gpa, table: Table) {
        self.0 = Some((held, mark, table.block(at), Known { table, frame: None }));
    }
}

impl Table {
    /// The root of a tree, by doubleword 0 of a partition.
    pub const fn root(tree: u64) -> Result<Self, Missed> {
        if tree & TREE_SIZE != crate::radix::TREE_SIZE_52 {
            return Err(Missed::Malformed);
        }
        Self::new(tree, BITS, 0)
    }

    /// The table that `word` names, whose entries are for `above` bits of an address.
    const fn new(word: u64, above: u32, level: usize) -> Result<Self, Missed> {
        /// Index bits, root first: the two sizes that a tree of 52 bits may have at the last level are those of 4 and 64 KiB.
        const LEVELS: [[u32; 2]; 4] = [[13; 2], [9; 2], [9; 2], [9, 5]];
        let (base, bits) = (word & ROOT, (word & SIZE_CODE) as u32);
        if level >= LEVELS.len()
            || bits != LEVELS[level][0] && bits != LEVELS[level][1]
            || base & ((8 << bits) - 1) != 0
        {
            return Err(Missed::Malformed);
        }
        Ok(Self { base, bits, shift: above - bits, level })
    }

    /// What of an address leads to this table.
    #[inline]
    const fn block(self, at: Gpa) -> u64 {
        at.0 >> self.shift >> self.bits
    }

    /// Where its entry for an address is.
    #[inline]
    #[must_use]
    pub const fn slot(self, at: Gpa) -> Gpa {
        Gpa(self.base | (at.0 >> self.shift << 3) & ((8 << self.bits) - 1))
    }

    /// What that entry says.
    #[inline]
    pub fn step(self, at: Gpa, word: u64) -> Result<Step, Missed> {
        if word & VALID == 0 {
            return Err(Missed::Hole);
        }
        if word & LEAF == 0 {
            return Self::new(word, self.shift, self.level + 1).map(Step::Down);
        }
        let within = (1 << self.shift) - 1;
        let frame = word & FRAME;
        let order = Order::new((self.shift - PAGE_SHIFT) as u8).filter(|_| self.level != 0 && frame & within == 0);
        let order = order.ok_or(Missed::Malformed)?;
        Ok(Step::Page(Found { from: Gpa(frame | at.0 & within), order, prot: prot(word), rc: rc(word) }))
    }
}

/// Walks L1's tree for L2's address `at`; also returns the table where that ended. Each word is read once.
pub fn walk(read: &Read<'_>, tree: u64, at: Gpa) -> Result<(Found, Table), Missed> {
    let mut table = Table::root(tree)?;
    if at.0 >> BITS != 0 {
        return Err(Missed::Hole);
    }
    loop {
        let (slot, mut word) = (table.slot(at), [0; 8]);
        read(slot, &mut word).map_err(|error| Missed::Memory(slot, error))?;
        match table.step(at, u64::from_be_bytes(word))? {
            Step::Down(next) => table = next,
            Step::Page(found) => return Ok((found, table)),
        }
    }
}

fn prot(word: u64) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, word & READ != 0);
    prot.set(Prot::WRITE, word & WRITE != 0);
    prot.set(Prot::EXEC, word & EXEC != 0);
    prot
}

fn rc(word: u64) -> Rc {
    let mut rc = Rc::empty();
    rc.set(Rc::REFERENCED, word & R != 0);
    rc.set(Rc::CHANGED, word & C != 0);
    rc
}

#[cfg(test)]
mod tests;
