//! The checked arena: all of the machine's memory, and what each frame is used for.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hv_core::addr::{PAGE_SIZE, Pfn};
use hv_core::page::Frames;
use hv_core::radix::format::TableRef;
use hv_core::sync::{AtomicU64, Ordering};

/// Words of a frame that exist. A model checker pays for each, and its worlds use the first few.
const WORDS: usize = if cfg!(any(loom, shuttle)) { 8 } else { PAGE_SIZE / 8 };
/// Frame numbers do not begin at 0, so that a frame number taken for something else shows.
pub const FIRST: u64 = 0x40;

/// What a frame was last made into. Whether it still is that, the allocator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Raw,
    Data,
    Table(TableRef),
}

#[derive(Debug)]
struct State {
    uses: Vec<Use>,
    /// Counts how often each frame was put to a new use.
    generations: Vec<u64>,
    violations: Vec<String>,
}

/// The memory.
#[derive(Debug)]
pub struct Ram {
    words: Vec<AtomicU64>,
    /// Book-keeping, not part of the world: a lock that model checkers do not see, never held across their steps.
    state: Mutex<State>,
    /// Lent in place of a cell that may not be touched.
    void: AtomicU64,
}

impl Ram {
    pub fn new(frames: usize) -> Self {
        // Content at power-on is arbitrary, and must not look like zeros or like holes.
        let words = (0..frames * WORDS).map(|n| AtomicU64::new(0xdead_0000_0000_0001 | (n as u64) << 8)).collect();
        let state = State { uses: vec![Use::Raw; frames], generations: vec![0; frames], violations: Vec::new() };
        Self { words, state: Mutex::new(state), void: AtomicU64::new(0) }
    }

    fn book(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes down a broken rule.
    pub fn violation(&self, what: String) {
        let mut state = self.book();
        if state.violations.len() < 8 {
            state.violations.push(what);
        }
    }

    /// Everything noted down so far.
    pub fn violations(&self) -> Vec<String> {
        self.book().violations.clone()
    }

    fn index(&self, pfn: Pfn) -> Option<usize> {
        let n = usize::try_from(pfn.0.checked_sub(FIRST)?).ok()?;
        (n < self.words.len() / WORDS).then_some(n)
    }

    fn put_to(&self, pfn: Pfn, what: Use) {
        let Some(n) = self.index(pfn) else {
            return self.violation(format!("G1: frame {pfn:?} is not of this machine"));
        };
        let mut state = self.book();
        state.uses[n] = what;
        state.generations[n] += 1;
        drop(state);
        for word in &self.words[n * WORDS..(n + 1) * WORDS] {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// A frame becomes guest memory, all zero.
    pub fn become_data(&self, frames: &Frames, pfn: Pfn) {
        if frames.is_free(pfn) {
            self.violation(format!("G1: free frame {pfn:?} is zeroed"));
        }
        self.put_to(pfn, Use::Data);
    }

    /// Frames become a table, all holes.
    pub fn become_table(&self, table: TableRef) {
        for n in 0..table.order().pages() {
            self.put_to(Pfn(table.base().0 + n), Use::Table(table));
        }
    }

    /// A table ends; every later look at it is noted down.
    pub fn end_table(&self, table: TableRef) {
        for n in 0..table.order().pages() {
            let pfn = Pfn(table.base().0 + n);
            match self.index(pfn).map(|n| self.book().uses[n]) {
                Some(Use::Table(t)) if t == table => self.put_to(pfn, Use::Raw),
                other => self.violation(format!("G6: {table:?} is freed, but its frame is {other:?}")),
            }
        }
    }

    /// How often the frame was put to a new use.
    pub fn generation(&self, pfn: Pfn) -> Option<u64> {
        self.index(pfn).map(|n| self.book().generations[n])
    }

    /// Entry `slot` of a table, if that is what the frame is.
    pub fn cell(&self, table: TableRef, slot: usize, who: &str) -> &AtomicU64 {
        let pfn = Pfn(table.base().0 + (slot / WORDS) as u64);
        let Some(n) = self.index(pfn) else {
            self.violation(format!("R2: {who} looks at a table outside memory: {table:?}"));
            return &self.void;
        };
        let used = self.book().uses[n];
        if used != Use::Table(table) {
            self.violation(format!("R2: {who} looks at {table:?}, but the frame is {used:?}"));
            return &self.void;
        }
        &self.words[n * WORDS + slot % WORDS]
    }

    /// True if the frame is guest memory that somebody owns; otherwise that is noted down.
    fn is_data(&self, frames: &Frames, pfn: Pfn, who: &str) -> bool {
        let used = self.index(pfn).map(|n| self.book().uses[n]);
        let fine = used == Some(Use::Data) && !frames.is_free(pfn);
        if !fine {
            let free = frames.is_free(pfn);
            self.violation(format!("G1: {who} touches frame {pfn:?}, which is {used:?}, free: {free}"));
        }
        fine
    }

    /// Reads bytes of guest memory.
    pub fn read(&self, frames: &Frames, pfn: Pfn, offset: usize, into: &mut [u8], who: &str) {
        if !self.in_frame(offset, into.len()) || !self.is_data(frames, pfn, who) {
            return;
        }
        let base = self.index(pfn).unwrap_or(0) * WORDS;
        for (n, byte) in into.iter_mut().enumerate() {
            let at = offset + n;
            *byte = (self.words[base + at / 8 % WORDS].load(Ordering::Relaxed) >> (8 * (at % 8))) as u8;
        }
        self.is_data(frames, pfn, who);
    }

    /// Writes bytes of guest memory. The frame must be owned before and after the store.
    pub fn write(&self, frames: &Frames, pfn: Pfn, offset: usize, from: &[u8], who: &str) {
        if !self.in_frame(offset, from.len()) || !self.is_data(frames, pfn, who) {
            return;
        }
        let base = self.index(pfn).unwrap_or(0) * WORDS;
        let mut at = 0;
        while at < from.len() {
            let (word, first) = ((offset + at) / 8, (offset + at) % 8);
            let here = (8 - first).min(from.len() - at);
            let (mut mask, mut value) = (0_u64, 0_u64);
            for n in 0..here {
                mask |= 0xff << (8 * (first + n));
                value |= u64::from(from[at + n]) << (8 * (first + n));
            }
            let cell = &self.words[base + word % WORDS];
            let mut old = cell.load(Ordering::Relaxed);
            while let Err(now) = cell.compare_exchange(old, old & !mask | value, Ordering::Relaxed, Ordering::Relaxed) {
                old = now;
            }
            at += here;
        }
        self.is_data(frames, pfn, who);
    }

    /// Copies a whole frame, which becomes guest memory by it.
    pub fn copy(&self, frames: &Frames, from: Pfn, to: Pfn) {
        if !self.is_data(frames, from, "a copy") {
            return;
        }
        self.become_data(frames, to);
        let (Some(from), Some(to)) = (self.index(from), self.index(to)) else { return };
        for n in 0..WORDS {
            let word = self.words[from * WORDS + n].load(Ordering::Relaxed);
            self.words[to * WORDS + n].store(word, Ordering::Relaxed);
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
