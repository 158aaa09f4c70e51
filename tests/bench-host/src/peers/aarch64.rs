//! The `aarch64-paging` crate's second-stage tables. One owner; every operation is one on a range.

#![expect(unsafe_code, reason = "the crate's trait for table memory is an unsafe one")]

use core::cell::Cell;
use core::ptr::{self, NonNull};

use aarch64_paging::Mapping;
use aarch64_paging::descriptor::{PhysicalAddress, Stage2Attributes};
use aarch64_paging::paging::{Constraints, MemoryRegion, PageTable, Stage2, Translation};

use crate::subject::{Pages, Subject};
use bench_host::arena;

struct Memory;

impl Translation<Stage2Attributes> for Memory {
    fn allocate_table(&mut self) -> (NonNull<PageTable<Stage2Attributes>>, PhysicalAddress) {
        let page = arena::table();
        (self.physical_to_virtual(PhysicalAddress(page)), PhysicalAddress(page))
    }

    unsafe fn deallocate_table(&mut self, page_table: NonNull<PageTable<Stage2Attributes>>) {
        arena::free_table(page_table.as_ptr().expose_provenance());
    }

    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<PageTable<Stage2Attributes>> {
        NonNull::new(ptr::with_exposed_provenance_mut(pa.0)).expect("a page of the arena")
    }
}

/// A table.
pub struct Aarch64(Mapping<Memory, Stage2>);

impl Aarch64 {
    /// An empty one, of four levels.
    pub fn new() -> Self {
        Self(Mapping::new(Memory, 0, Stage2))
    }

    #[inline]
    fn put(&mut self, key: u64, pages: u64, pfn: u64, flags: Stage2Attributes) {
        let pa = PhysicalAddress((pfn << 12) as usize);
        self.0.map_range(&region(key, pages), pa, flags, Constraints::NO_BLOCK_MAPPINGS).expect("in reach");
    }
}

#[inline]
fn region(key: u64, pages: u64) -> MemoryRegion {
    MemoryRegion::new((key << 12) as usize, (key + pages << 12) as usize)
}

fn flags() -> Stage2Attributes {
    Stage2Attributes::VALID
        | Stage2Attributes::MEMATTR_NORMAL_INNER_WB
        | Stage2Attributes::MEMATTR_NORMAL_OUTER_WB
        | Stage2Attributes::S2AP_ACCESS_RW
        | Stage2Attributes::SH_INNER
        | Stage2Attributes::ACCESS_FLAG
}

impl Subject for Aarch64 {
    type Batch<'a> = &'a mut Self;

    fn batch(&mut self) -> &mut Self {
        self
    }

    fn map_range(&mut self, key: u64, pfn: u64, pages: u64) {
        self.put(key, pages, pfn, flags());
    }

    fn unmap_range(&mut self, key: u64, pages: u64) {
        self.put(key, pages, 0, Stage2Attributes::empty());
    }
}

impl Pages for &mut Aarch64 {
    #[inline]
    fn map(&mut self, key: u64, pfn: u64) {
        self.put(key, 1, pfn, flags());
    }

    #[inline]
    fn look_up(&self, key: u64) -> u64 {
        let mut found = None;
        let seen = self.0.walk_range(&region(key, 1), &mut |_, entry, _| {
            found = entry.is_valid().then(|| entry.output_address().0 as u64 >> 12);
            Ok(())
        });
        seen.expect("in reach");
        found.expect("mapped")
    }

    #[inline]
    fn unmap(&mut self, key: u64) -> u64 {
        let old = Cell::new(0);
        let done = self.0.modify_range(&region(key, 1), &|_, entry| {
            old.set(entry.output_address().0 as u64 >> 12);
            entry.set(PhysicalAddress(0), Stage2Attributes::empty())
        });
        done.expect("mapped");
        old.get()
    }
}
