//! The `page_table_multiarch` crate, with x86's entries. One owner.

use memory_addr::{PhysAddr, VirtAddr};
use page_table_multiarch::x86_64::{X64PageTable, X64PageTableCursor};
use page_table_multiarch::{MappingFlags, PageSize, PagingHandler};

use crate::subject::{Pages, Subject};
use bench_host::arena;

struct Memory;

impl PagingHandler for Memory {
    fn alloc_frames(num: usize, align: usize) -> Option<PhysAddr> {
        (num == 1 && align == PageSize::Size4K as usize).then(|| PhysAddr::from_usize(arena::table()))
    }

    fn dealloc_frames(paddr: PhysAddr, _num: usize) {
        arena::free_table(paddr.as_usize());
    }

    #[inline]
    fn phys_to_virt(paddr: PhysAddr) -> VirtAddr {
        VirtAddr::from_usize(paddr.as_usize())
    }
}

/// A table.
pub struct Multiarch(X64PageTable<Memory>);

/// What a batch of changes goes through; on a real machine it flushes at its end.
pub struct Cursor<'a>(X64PageTableCursor<'a, Memory>);

impl Multiarch {
    /// An empty one.
    pub fn new() -> Self {
        Self(X64PageTable::try_new().expect("a root"))
    }
}

fn flags() -> MappingFlags {
    MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE
}

fn at(key: u64) -> VirtAddr {
    VirtAddr::from_usize((key << 12) as usize)
}

impl Subject for Multiarch {
    type Batch<'a> = Cursor<'a>;

    fn batch(&mut self) -> Cursor<'_> {
        Cursor(self.0.cursor())
    }

    fn map_range(&mut self, key: u64, pfn: u64, pages: u64) {
        let frame =
            |va: VirtAddr| PhysAddr::from_usize(va.as_usize() - ((key as usize) << 12) + ((pfn as usize) << 12));
        let done = self.0.cursor().map_region(at(key), frame, (pages as usize) << 12, flags(), false);
        done.expect("nothing is mapped there");
    }

    fn unmap_range(&mut self, key: u64, pages: u64) {
        self.0.cursor().unmap_region(at(key), (pages as usize) << 12).expect("mapped");
    }
}

impl Pages for Cursor<'_> {
    #[inline]
    fn map(&mut self, key: u64, pfn: u64) {
        let frame = PhysAddr::from_usize((pfn << 12) as usize);
        self.0.map(at(key), frame, PageSize::Size4K, flags()).expect("nothing is mapped there");
    }

    #[inline]
    fn look_up(&self, key: u64) -> u64 {
        let (frame, _, _) = self.0.query(at(key)).expect("mapped");
        frame.as_usize() as u64 >> 12
    }

    #[inline]
    fn unmap(&mut self, key: u64) -> u64 {
        let (frame, _, _) = self.0.unmap(at(key)).expect("mapped");
        frame.as_usize() as u64 >> 12
    }
}
