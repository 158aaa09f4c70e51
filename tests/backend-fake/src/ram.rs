//! The checked arena: all of the machine's memory. Every access is held against what its frame is used for.
//!
//! A frame costs nothing until it is touched, and nothing again once it is zeroed, so that machines of many gigabytes
//! can be made for a single case.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hv_core::addr::{Order, PAGE_SIZE, Pfn};
use hv_core::page::Frames;
use hv_core::radix::format::TableRef;
use hv_core::sync::{AtomicU64, Ordering};

use crate::book::{Book, Content, Use};
use crate::cells::{CHECKED, Cells, Place, WORDS};
use crate::own::Own;

/// Frame numbers do not begin at 0, so that a frame number taken for something else shows.
pub const FIRST: u64 = 0x40;

/// The memory.
#[derive(Debug)]
pub struct Ram {
    frames: usize,
    cells: Cells,
    /// Never held across a step of a model checker.
    book: Mutex<Book>,
    /// Lent in place of a cell that may not be touched.
    void: AtomicU64,
}

/// The words of a frame, to be read or stored to.
struct Words<'a> {
    /// Its number in the arena.
    frame: usize,
    content: Content,
    cells: Option<&'a [AtomicU64]>,
    /// While it is held, the words stay this frame's.
    book: Option<MutexGuard<'a, Book>>,
}

impl Words<'_> {
    fn load(&self, word: usize) -> u64 {
        match (self.cells, self.content) {
            (Some(cells), _) => cells[word % WORDS].load(Ordering::Relaxed),
            (None, Content::Arbitrary) => arbitrary(self.frame, word),
            (None, _) => 0,
        }
    }
}

/// Content at power-on is arbitrary, and must not look like zeros or like holes.
fn arbitrary(frame: usize, word: usize) -> u64 {
    0xdead_0000_0000_0001 | ((frame * WORDS + word) as u64) << 8
}

impl Ram {
    pub fn new(frames: usize) -> Self {
        let (cells, mut book) = (Cells::new(frames), Book::new(frames));
        if CHECKED {
            for n in 0..frames {
                for (word, cell) in cells.at(book.pin(n)).iter().enumerate() {
                    cell.store(arbitrary(n, word), Ordering::Relaxed);
                }
            }
        }
        Self { frames, cells, book: Mutex::new(book), void: AtomicU64::new(0) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes down a broken rule.
    pub fn violation(&self, what: String) {
        let _own = Own::begin();
        self.book().violation(what);
    }

    /// Everything noted down so far.
    pub fn violations(&self) -> Vec<String> {
        self.book().violations.clone()
    }

    fn index(&self, pfn: Pfn) -> Option<usize> {
        let n = usize::try_from(pfn.0.checked_sub(FIRST)?).ok()?;
        (n < self.frames).then_some(n)
    }

    /// What the frame is used for; `None` if there is no such frame.
    fn used(&self, pfn: Pfn) -> Option<Use> {
        self.index(pfn).map(|n| self.book().record(n).used)
    }

    /// The table that begins in this frame.
    #[cfg(test)]
    pub fn table_at(&self, pfn: Pfn) -> Option<TableRef> {
        match self.used(pfn) {
            Some(Use::Table(table)) if table.base() == pfn => Some(table),
            _ => None,
        }
    }

    fn put_to(&self, first: Pfn, order: Order, what: Use) {
        let _own = Own::begin();
        let Some(range) = self.index(first).filter(|n| (*n as u64) + order.pages() <= self.frames as u64) else {
            return self.violation(format!("G1: {first:?} of {order:?} is not of this machine"));
        };
        let mut book = self.book();
        let to_zero: Vec<Place> =
            (range..range + order.pages() as usize).filter_map(|n| book.put_to(n, what)).collect();
        drop(book);
        for place in to_zero {
            for word in self.cells.at(place) {
                word.store(0, Ordering::Relaxed);
            }
        }
    }

    /// A block becomes guest memory, all zero.
    pub fn become_data(&self, frames: &Frames, first: Pfn, order: Order) {
        for n in [0, order.pages() - 1] {
            if frames.is_free(Pfn(first.0 + n)) {
                self.violation(format!("G1: free frame {:?} is zeroed", Pfn(first.0 + n)));
            }
        }
        self.put_to(first, order, Use::Data);
    }

    /// Frames become a table, all holes.
    pub fn become_table(&self, table: TableRef) {
        self.put_to(table.base(), table.order(), Use::Table(table));
    }

    /// A table ends; every later look at it is noted down.
    pub fn end_table(&self, table: TableRef) {
        match self.used(table.base()) {
            Some(Use::Table(t)) if t == table => self.put_to(table.base(), table.order(), Use::Raw),
            other => self.violation(format!("G6: {table:?} is freed, but its frame is {other:?}")),
        }
    }

    /// The time on the book's clock, which ticks whenever a frame is put to a new use.
    pub fn clock(&self) -> u64 {
        self.book().clock()
    }

    /// True if the frame was put to a new use after `then`.
    pub fn reused_since(&self, pfn: Pfn, then: u64) -> bool {
        self.index(pfn).is_none_or(|n| self.book().record(n).since > then)
    }

    /// Entry `slot` of a table, if that is what the frame is.
    pub fn cell(&self, table: TableRef, slot: usize, who: &str) -> &AtomicU64 {
        self.row(table, slot / WORDS, who).get(slot % WORDS).unwrap_or(&self.void)
    }

    /// All entries in one frame of a table; none if it is no table's, and that is noted down.
    pub fn row(&self, table: TableRef, frame: usize, who: &str) -> &[AtomicU64] {
        let pfn = Pfn(table.base().0 + frame as u64);
        let record = self.index(pfn).map(|n| self.book().record(n));
        match record.map(|r| (r.used, r.content)) {
            Some((Use::Table(t), Content::Pinned(place))) if t == table => self.cells.at(place),
            other => {
                let used = other.map(|(used, _)| used);
                self.violation(format!("G6: {who} looks at {table:?}, but the frame is {used:?}"));
                &[]
            }
        }
    }

    /// True if the frame is guest memory that somebody owns; otherwise that is noted down.
    pub fn is_data(&self, frames: &Frames, pfn: Pfn, who: &str) -> bool {
        let used = self.used(pfn);
        let free = frames.is_free(pfn);
        if used != Some(Use::Data) || free {
            self.violation(format!("G1: {who} touches frame {pfn:?}, which is {used:?}, free: {free}"));
            return false;
        }
        true
    }

    /// The words of a frame as they are.
    fn words(&self, frame: usize) -> Words<'_> {
        let book = self.book();
        match book.record(frame).content {
            // A pinned place needs no book held, and a model checker could not bear it.
            content @ Content::Pinned(place) => Words { frame, content, cells: Some(self.cells.at(place)), book: None },
            content @ Content::Kept(place) => {
                Words { frame, content, cells: Some(self.cells.at(place)), book: Some(book) }
            }
            content @ (Content::Arbitrary | Content::Zero) => Words { frame, content, cells: None, book: Some(book) },
        }
    }

    /// Replaces bits of one word of a frame.
    fn update(&self, frame: usize, word: usize, mask: u64, value: u64) {
        let _own = Own::begin();
        let mut words = self.words(frame);
        let cells = words.cells.unwrap_or_else(|| {
            let fresh = words.book.as_mut().map_or(Place(0), |book| book.keep(frame));
            let cells = self.cells.at(fresh);
            for (n, cell) in cells.iter().enumerate() {
                cell.store(words.load(n), Ordering::Relaxed);
            }
            cells
        });
        let cell = &cells[word % WORDS];
        let mut old = cell.load(Ordering::Relaxed);
        while let Err(now) = cell.compare_exchange(old, old & !mask | value, Ordering::Relaxed, Ordering::Relaxed) {
            old = now;
        }
    }

    /// Reads bytes of guest memory.
    pub fn read(&self, frames: &Frames, pfn: Pfn, offset: usize, into: &mut [u8], who: &str) {
        if !self.in_frame(offset, into.len()) || !self.is_data(frames, pfn, who) {
            return;
        }
        let Some(frame) = self.index(pfn) else { return };
        let words = self.words(frame);
        let (mut at, mut rest) = (offset, into);
        while !rest.is_empty() {
            let (part, more) = rest.split_at_mut((8 - at % 8).min(rest.len()));
            let word = words.load(at / 8).to_le_bytes();
            part.copy_from_slice(&word[at % 8..at % 8 + part.len()]);
            at += part.len();
            rest = more;
        }
        drop(words);
        self.is_data(frames, pfn, who);
    }

    /// Writes bytes of guest memory. The frame must be owned before and after the store.
    pub fn write(&self, frames: &Frames, pfn: Pfn, offset: usize, from: &[u8], who: &str) {
        if !self.in_frame(offset, from.len()) || !self.is_data(frames, pfn, who) {
            return;
        }
        let Some(frame) = self.index(pfn) else { return };
        let (mut at, mut rest) = (offset, from);
        while !rest.is_empty() {
            let (part, more) = rest.split_at((8 - at % 8).min(rest.len()));
            let (mut mask, mut value) = ([0; 8], [0; 8]);
            mask[at % 8..at % 8 + part.len()].fill(0xff);
            value[at % 8..at % 8 + part.len()].copy_from_slice(part);
            self.update(frame, at / 8, u64::from_le_bytes(mask), u64::from_le_bytes(value));
            at += part.len();
            rest = more;
        }
        self.is_data(frames, pfn, who);
    }

    /// Copies a whole frame, which becomes guest memory by it.
    pub fn copy(&self, frames: &Frames, from: Pfn, to: Pfn) {
        if !self.is_data(frames, from, "a copy") {
            return;
        }
        self.become_data(frames, to, Order::PAGE);
        let (Some(from), Some(to)) = (self.index(from), self.index(to)) else { return };
        for word in 0..WORDS {
            let value = self.words(from).load(word);
            if value != 0 || CHECKED {
                self.update(to, word, u64::MAX, value);
            }
        }
    }

    fn in_frame(&self, offset: usize, len: usize) -> bool {
        let fine = offset.checked_add(len).is_some_and(|end| end <= PAGE_SIZE);
        if !fine {
            self.violation(format!("an access of {len} bytes at offset {offset} leaves its frame"));
        }
        fine
    }
}
