//! The `x86_64` crate's `OffsetPageTable`: one owner, and the same behind a reader-writer lock.

#![expect(unsafe_code, reason = "the crate cannot know that a frame may be mapped")]

use spin::rwlock::RwLock;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use crate::subject::{Pages, Subject};
use bench_host::arena;

/// The table of one owner.
pub struct Owned(OffsetPageTable<'static>);

struct Tables;

// SAFETY: every page is given out once, until it is given back.
unsafe impl FrameAllocator<Size4KiB> for Tables {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        PhysFrame::from_start_address(PhysAddr::new(arena::table() as u64)).ok()
    }
}

impl Owned {
    /// An empty one.
    pub fn new() -> Self {
        let root = core::ptr::with_exposed_provenance_mut::<PageTable>(arena::table());
        // SAFETY: memory is mapped one to one, and the root is a zeroed page that is never given back.
        Self(unsafe { OffsetPageTable::new(&mut *root, VirtAddr::zero()) })
    }
}

#[inline]
fn page(key: u64) -> Page {
    Page::containing_address(VirtAddr::new_truncate(key << 12))
}

#[inline]
fn frame(pfn: u64) -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(pfn << 12))
}

#[inline]
fn map(table: &mut OffsetPageTable<'_>, key: u64, pfn: u64) {
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::ACCESSED | PageTableFlags::DIRTY;
    // SAFETY: no processor uses this table.
    unsafe { table.map_to(page(key), frame(pfn), flags, &mut Tables) }.expect("nothing is mapped there").ignore();
}

#[inline]
fn look_up(table: &OffsetPageTable<'_>, key: u64) -> u64 {
    table.translate_page(page(key)).expect("mapped").start_address().as_u64() >> 12
}

#[inline]
fn unmap(table: &mut OffsetPageTable<'_>, key: u64) -> u64 {
    let (frame, flush) = table.unmap(page(key)).expect("mapped");
    flush.ignore();
    frame.start_address().as_u64() >> 12
}

impl Subject for Owned {
    type Batch<'a> = &'a mut Self;

    fn batch(&mut self) -> &mut Self {
        self
    }

    fn map_range(&mut self, key: u64, pfn: u64, pages: u64) {
        for n in 0..pages {
            map(&mut self.0, key + n, pfn + n);
        }
    }

    fn unmap_range(&mut self, key: u64, pages: u64) {
        for n in 0..pages {
            unmap(&mut self.0, key + n);
        }
    }
}

impl Pages for &mut Owned {
    #[inline]
    fn map(&mut self, key: u64, pfn: u64) {
        map(&mut self.0, key, pfn);
    }

    #[inline]
    fn look_up(&self, key: u64) -> u64 {
        look_up(&self.0, key)
    }

    #[inline]
    fn unmap(&mut self, key: u64) -> u64 {
        unmap(&mut self.0, key)
    }
}

/// The table behind a lock that nobody else wants: taken for reading to look up, for writing to change, once a page;
/// once a range for ranges.
pub struct Locked(RwLock<Owned>);

impl Locked {
    /// An empty one.
    pub fn new() -> Self {
        Self(RwLock::new(Owned::new()))
    }
}

impl Subject for Locked {
    type Batch<'a> = &'a RwLock<Owned>;

    fn batch(&mut self) -> &RwLock<Owned> {
        &self.0
    }

    fn map_range(&mut self, key: u64, pfn: u64, pages: u64) {
        self.0.write().map_range(key, pfn, pages);
    }

    fn unmap_range(&mut self, key: u64, pages: u64) {
        self.0.write().unmap_range(key, pages);
    }
}

impl Pages for &RwLock<Owned> {
    #[inline]
    fn map(&mut self, key: u64, pfn: u64) {
        map(&mut self.write().0, key, pfn);
    }

    #[inline]
    fn look_up(&self, key: u64) -> u64 {
        look_up(&self.read().0, key)
    }

    #[inline]
    fn unmap(&mut self, key: u64) -> u64 {
        unmap(&mut self.write().0, key)
    }
}
