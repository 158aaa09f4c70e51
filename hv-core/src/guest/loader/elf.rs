//! What of an ELF file (System V ABI, 64-bit) is needed to load a kernel: its header and its segments. The file comes from
//! outside: every field is read once, and whatever does not lie in the file is an error (R26).

use super::{ByteOrder, slice};

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const TYPES: [u64; 2] = [2, 3]; // ET_EXEC, ET_DYN
const PT_LOAD: u64 = 1;
/// Bytes of a segment's entry.
const ENTRY: usize = 56;

/// The file's header.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub order: ByteOrder,
    /// A 64-bit executable.
    pub executable: bool,
    pub machine: u16,
    /// The first instruction's virtual address.
    pub entry: u64,
}

/// A segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// It is to be loaded.
    pub load: bool,
    /// Where its bytes lie in the file.
    pub offset: u64,
    pub virtual_address: u64,
    /// Its physical address.
    pub address: u64,
    pub file_size: u64,
    pub memory_size: u64,
}

/// The table of segments, entry by entry.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    order: ByteOrder,
    table: &'a [u8],
}

impl Header {
    /// Reads the header; `None` if it is no ELF file.
    pub fn read(file: &[u8]) -> Option<Self> {
        let order = match *file.get(5)? {
            1 => ByteOrder::Little,
            2 => ByteOrder::Big,
            _ => return None,
        };
        if file.get(..4)? != MAGIC {
            return None;
        }
        let executable = *file.get(4)? == CLASS_64 && TYPES.contains(&field(order, file, 16, 2)?);
        let machine = u16::try_from(field(order, file, 18, 2)?).ok()?;
        Some(Self { order, executable, machine, entry: field(order, file, 24, 8)? })
    }

    /// The table, if all of it lies in the file.
    pub fn segments(self, file: &[u8]) -> Option<Segments<'_>> {
        let field = |at, bytes| field(self.order, file, at, bytes);
        let bytes = field(56, 2)?.checked_mul(ENTRY as u64)?;
        (field(54, 2)? == ENTRY as u64).then_some(())?;
        Some(Segments { order: self.order, table: slice(file, field(32, 8)?, bytes)? })
    }
}

impl Segments<'_> {
    /// How many entries are left.
    pub fn len(&self) -> usize {
        self.table.len() / ENTRY
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        let (entry, rest) = self.table.split_at_checked(ENTRY)?;
        self.table = rest;
        let field = |at, bytes| field(self.order, entry, at, bytes);
        Some(Segment {
            load: field(0, 4)? == PT_LOAD,
            offset: field(8, 8)?,
            virtual_address: field(16, 8)?,
            address: field(24, 8)?,
            file_size: field(32, 8)?,
            memory_size: field(40, 8)?,
        })
    }
}

/// A number of so many bytes.
fn field(order: ByteOrder, bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    Some(match order {
        ByteOrder::Big => bytes.iter().fold(0, add),
        ByteOrder::Little => bytes.iter().rev().fold(0, add),
    })
}
