//! Memory for tables and frames: one mapping of this process, whose addresses serve as physical addresses.
//!
//! A board runs with real memory mapped one to one; so does every competitor here: frame number `n` is the page at
//! address `n << 12`. A table entry is then found with a shift and an add, by everybody alike.

#![expect(unsafe_code, reason = "physical memory is raw memory")]

use std::cell::RefCell;
use std::ptr;

use hv_core::addr::{PAGE_SHIFT, PAGE_SIZE, Pfn, PfnRange};

/// The alignment of an arena: the largest block that anybody allocates.
const ALIGN: usize = 1 << 30;

/// A range of memory that lives until the process ends.
#[derive(Clone, Copy, Debug)]
pub struct Arena {
    start: usize,
    bytes: usize,
}

impl Arena {
    /// Reserves `bytes`, a multiple of the page size. Pages cost memory once they are touched.
    pub fn new(bytes: usize) -> Self {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, at an address of the kernel's choice, touches nothing of ours.
        let got = unsafe { libc::mmap(ptr::null_mut(), bytes + ALIGN, prot, flags, -1, 0) };
        assert!(got != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Self { start: (got.expose_provenance() + ALIGN - 1) & !(ALIGN - 1), bytes }
    }

    /// Its frames.
    pub fn frames(&self) -> PfnRange {
        PfnRange::new(Pfn((self.start >> PAGE_SHIFT) as u64), (self.bytes >> PAGE_SHIFT) as u64).expect("not empty")
    }

    /// Its first address.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

thread_local! {
    /// Zeroed table pages that competitors gave back, and where fresh ones begin.
    static TABLES: RefCell<Tables> = RefCell::new(Tables { next: 0, end: 0, free: Vec::new() });
}

struct Tables {
    next: usize,
    end: usize,
    free: Vec<usize>,
}

/// Bytes that are taken from the system at a time.
const CHUNK: usize = 64 << 20;

/// A zeroed page for a competitor's table; returns its address.
pub fn table() -> usize {
    let page = TABLES.with_borrow_mut(|tables| {
        if let Some(page) = tables.free.pop() {
            return page;
        }
        if tables.next == tables.end {
            let chunk = Arena::new(CHUNK);
            (tables.next, tables.end) = (chunk.start(), chunk.start() + chunk.bytes());
        }
        tables.next += PAGE_SIZE;
        tables.next - PAGE_SIZE
    });
    // SAFETY: the page lies in an arena, and nobody else has it.
    unsafe { ptr::write_bytes(ptr::with_exposed_provenance_mut::<u8>(page), 0, PAGE_SIZE) };
    page
}

/// Takes back what [`table`] gave.
pub fn free_table(page: usize) {
    TABLES.with_borrow_mut(|tables| tables.free.push(page));
}
