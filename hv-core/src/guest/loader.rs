//! Puts a guest's images into its memory, whatever its instruction set.
//!
//! Three steps, so that the board's own pieces (a device tree that names the others' addresses) fit in between:
//! [`Kernel::parse`] checks the kernel, [`Plan::new`] decides where everything goes, [`Kernel::load`] and [`copy`] write.
//!
//! The target is the memory of a VM that has not run: it reads as zero. So nothing writes zeros: neither a segment's
//! tail (`.bss`) nor any page of an image that is all zero costs a frame.

use core::fmt;

use crate::addr::{Gpa, PAGE_SIZE};
use crate::vcpu::services::MemError;

mod elf;
mod plan;

use elf::{Header, Segment, Segments};
pub use plan::{IMAGE_ALIGN, Plan, Sizes};

/// More segments than any kernel has; bounds the work of checking them against one another.
const MAX_SEGMENTS: usize = 64;

/// Why a guest's images cannot be loaded. The texts are for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// No ELF file, or one that is cut short or contradicts itself.
    NotElf,
    /// Not a 64-bit executable.
    NotExecutable,
    /// Built for another instruction set.
    Machine {
        /// The file's `e_machine`.
        found: u16,
        /// The board's.
        want: u16,
    },
    /// No or too many segments to load.
    Segments(usize),
    /// This segment's bytes lie outside the file, or it has more bytes in the file than in memory.
    Segment(usize),
    /// Two segments would lie on one another.
    Overlap(usize, usize),
    /// The entry point lies in no segment.
    Entry(u64),
    /// Of a form that only its instruction set knows, and not as that form wants it.
    Form(&'static str),
    /// Does not fit into the VM's memory.
    DoesNotFit {
        /// What does not.
        piece: Piece,
        /// First address after it, or `u64::MAX` if that is past the end of all addresses.
        end: u64,
        /// First address that it must not reach.
        limit: u64,
    },
    /// Guests of this machine do not choose sizes of pages, so their memory has no granule.
    Granule,
    /// The VM's memory would not take it.
    Memory(MemError),
}

/// What is placed in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The kernel.
    Kernel,
    /// The initial RAM disk.
    Initrd,
    /// The tables that describe the machine to the guest (a device tree).
    Tree,
    /// The firmware that stays (RTAS).
    Firmware,
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Tree => "device tree",
            Self::Firmware => "firmware",
        })
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("the kernel is not an ELF file, or is damaged"),
            Self::NotExecutable => f.write_str("the kernel is not a 64-bit executable"),
            Self::Machine { found, want } => {
                write!(f, "the kernel is for another kind of processor (ELF machine {found}, needed is {want})")
            }
            Self::Segments(n) => write!(f, "the kernel has {n} segments to load; 1 to {MAX_SEGMENTS} are possible"),
            Self::Segment(n) => write!(f, "the kernel is damaged: segment {n} has impossible sizes"),
            Self::Overlap(a, b) => write!(f, "the kernel is damaged: segments {a} and {b} overlap"),
            Self::Entry(at) => write!(f, "the kernel's entry {at:#x} lies in none of its segments"),
            Self::Form(why) => write!(f, "the kernel cannot be loaded: {why}"),
            Self::DoesNotFit { piece, end, limit } => {
                write!(f, "the VM's memory is too small: its {piece} would end at {end:#x}, the limit is {limit:#x}")
            }
            Self::Granule => f.write_str("this machine has no memory with a granule"),
            Self::Memory(MemError::BadAddress) => f.write_str("an image lies outside the VM's memory"),
            Self::Memory(MemError::NoMemory) => f.write_str("the machine has too little memory for the VM's images"),
        }
    }
}

impl core::error::Error for LoadError {}

impl From<MemError> for LoadError {
    fn from(why: MemError) -> Self {
        Self::Memory(why)
    }
}

/// A range of guest physical addresses in bytes, `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: Gpa,
    /// First byte after it.
    pub end: Gpa,
}

impl Span {
    /// Its length in bytes.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// True if it holds nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    const fn overlaps(self, other: Self) -> bool {
        self.start.0 < other.end.0 && other.start.0 < self.end.0
    }
}

/// A kernel that has been checked: every segment lies in the file and on no other one, and the entry in one of them.
#[derive(Debug)]
pub struct Kernel<'a> {
    file: &'a [u8],
    form: Form<'a>,
    /// Where the first instruction is.
    pub entry: Gpa,
    /// First address after all segments, their zero tails included.
    pub end: Gpa,
    /// The file's byte order.
    pub order: ByteOrder,
}

#[derive(Debug)]
enum Form<'a> {
    /// An ELF file.
    Segments(Segments<'a>),
    /// All of the file, to one place.
    Flat(Gpa),
}

/// The order of bytes in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl<'a> Kernel<'a> {
    /// Checks a kernel for a board whose ELF `e_machine` is `machine`. Addresses are the segments' physical ones. The file
    /// names its entry by virtual address, or, if no segment has that, by physical address: some kernels do.
    pub fn parse(file: &'a [u8], machine: u16) -> Result<Self, LoadError> {
        let header = Header::read(file).ok_or(LoadError::NotElf)?;
        let Header { order, entry: first, .. } = header;
        if !header.executable {
            return Err(LoadError::NotExecutable);
        }
        if header.machine != machine {
            return Err(LoadError::Machine { found: header.machine, want: machine });
        }
        let table = header.segments(file).ok_or(LoadError::NotElf)?;
        if segments(table).count() == 0 || table.len() > MAX_SEGMENTS {
            return Err(LoadError::Segments(table.len()));
        }
        let (mut entry, mut physical, mut end) = (None, None, 0);
        for (number, segment) in segments(table) {
            let span = extent(number, &segment)?;
            if segment.file_size > segment.memory_size || content(file, &segment).is_none() {
                return Err(LoadError::Segment(number));
            }
            for (earlier, other) in segments(table).take_while(|(n, _)| *n < number) {
                if extent(earlier, &other)?.overlaps(span) {
                    return Err(LoadError::Overlap(earlier, number));
                }
            }
            end = span.end.0.max(end);
            if let Some(offset) = first.checked_sub(segment.virtual_address).filter(|o| *o < segment.memory_size) {
                entry = span.start.checked_add(offset);
            }
            if (span.start.0..span.end.0).contains(&first) {
                physical = Some(Gpa(first));
            }
        }
        let entry = entry.or(physical).ok_or(LoadError::Entry(first))?;
        Ok(Self { file, form: Form::Segments(table), entry, end: Gpa(end), order })
    }

    /// A kernel of one piece, which is all of the file and begins with its first instruction. It lies at `at` and uses
    /// `memory` bytes from there on, at least as many as the file has. That the file is such a kernel the caller has checked.
    pub fn flat(file: &'a [u8], at: Gpa, memory: u64, order: ByteOrder) -> Result<Self, LoadError> {
        let end = at.checked_add(memory).filter(|_| !file.is_empty() && file.len() as u64 <= memory);
        let end = end.ok_or(LoadError::Segment(0))?;
        Ok(Self { file, form: Form::Flat(at), entry: at, end, order })
    }

    /// Writes it.
    pub fn load(&self, mut write: impl FnMut(Gpa, &[u8]) -> Result<(), MemError>) -> Result<(), LoadError> {
        let table = match self.form {
            Form::Segments(table) => table,
            Form::Flat(at) => return copy(at, self.file, write),
        };
        for (number, segment) in segments(table) {
            let bytes = content(self.file, &segment).ok_or(LoadError::Segment(number))?;
            copy(Gpa(segment.address), bytes, &mut write)?;
        }
        Ok(())
    }
}

/// The bytes that a segment has in the file.
fn content<'a>(file: &'a [u8], segment: &Segment) -> Option<&'a [u8]> {
    slice(file, segment.offset, segment.file_size)
}

fn slice(file: &[u8], at: u64, len: u64) -> Option<&[u8]> {
    file.get(usize::try_from(at).ok()?..usize::try_from(at.checked_add(len)?).ok()?)
}

/// Segments to load with their places in the table; those without bytes in memory count as none.
fn segments(table: Segments<'_>) -> impl Iterator<Item = (usize, Segment)> {
    table.take(MAX_SEGMENTS).enumerate().filter(|(_, segment)| segment.load && segment.memory_size != 0)
}

fn extent(number: usize, segment: &Segment) -> Result<Span, LoadError> {
    let start = Gpa(segment.address);
    let end = start.checked_add(segment.memory_size).ok_or(LoadError::Segment(number))?;
    Ok(Span { start, end })
}

/// Copies an image to guest memory, page by page, and leaves out pages of zeros.
pub fn copy(at: Gpa, image: &[u8], mut write: impl FnMut(Gpa, &[u8]) -> Result<(), MemError>) -> Result<(), LoadError> {
    let (mut at, mut rest) = (at, image);
    while !rest.is_empty() {
        let room = PAGE_SIZE.saturating_sub(at.offset()).min(rest.len());
        let (page, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
        if !is_zero(page) {
            write(at, page)?;
        }
        rest = later;
        let done = u64::try_from(page.len()).unwrap_or(u64::MAX);
        at = match at.checked_add(done) {
            Some(next) => next,
            None if rest.is_empty() => return Ok(()),
            None => return Err(LoadError::Memory(MemError::BadAddress)),
        };
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    // By words, because this looks at every byte of every image.
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| u64::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests;
