//! What each frame is used for, and where its words are. Book-keeping, not part of the world: no model checker sees it.

use hv_core::radix::format::TableRef;

use crate::cells::Place;

/// Frames whose records are made together, when one of them is first touched.
const CHUNK: usize = 512;
/// Violations kept; the first ones tell.
const MOST: usize = 8;

/// What a frame was last made into. Whether it still is that, the allocator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Nothing since power-on, or a table that ended.
    Raw,
    /// Guest memory.
    Data,
    /// Part of a table.
    Table(TableRef),
}

/// Where the words of a frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nowhere: as at power-on.
    Arbitrary,
    /// Nowhere: all zero.
    Zero,
    /// There, until the frame is zeroed; then another frame may get the place.
    Kept(Place),
    /// There for good: somebody may hold on to a cell.
    Pinned(Place),
}

/// What is known of one frame.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// What it is used for.
    pub used: Use,
    /// When it was put to this use; every new use of any frame is later than all before.
    pub since: u64,
    /// Its words.
    pub content: Content,
}

/// The records.
#[derive(Debug)]
pub struct Book {
    chunks: Vec<Option<Box<[Record]>>>,
    clock: u64,
    /// Places that frames gave back.
    spare: Vec<Place>,
    /// Places given out so far.
    places: usize,
    /// Rules seen broken.
    pub violations: Vec<String>,
}

impl Book {
    /// Nothing has been touched.
    pub fn new(frames: usize) -> Self {
        let chunks = (0..frames.div_ceil(CHUNK)).map(|_| None).collect();
        Self { chunks, clock: 0, spare: Vec::new(), places: 0, violations: Vec::new() }
    }

    /// What is known of frame `n`.
    pub fn record(&self, n: usize) -> Record {
        let untouched = Record { used: Use::Raw, since: 0, content: Content::Arbitrary };
        self.chunks[n / CHUNK].as_ref().map_or(untouched, |chunk| chunk[n % CHUNK])
    }

    fn record_mut(&mut self, n: usize) -> &mut Record {
        let untouched = Record { used: Use::Raw, since: 0, content: Content::Arbitrary };
        &mut self.chunks[n / CHUNK].get_or_insert_with(|| vec![untouched; CHUNK].into())[n % CHUNK]
    }

    /// Frame `n` is put to a new use, all zero. Returns the place that the caller must fill with zeros, if there is one.
    pub fn put_to(&mut self, n: usize, used: Use) -> Option<Place> {
        self.clock += 1;
        let content = match (self.record(n).content, used) {
            (Content::Pinned(place), _) | (Content::Kept(place), Use::Table(_)) => Content::Pinned(place),
            (Content::Arbitrary | Content::Zero, Use::Table(_)) => Content::Pinned(self.place()),
            (Content::Kept(place), Use::Raw | Use::Data) => {
                self.spare.push(place);
                Content::Zero
            }
            (Content::Arbitrary | Content::Zero, Use::Raw | Use::Data) => Content::Zero,
        };
        *self.record_mut(n) = Record { used, since: self.clock, content };
        if let Content::Pinned(place) = content { Some(place) } else { None }
    }

    /// A place for frame `n`, which has none, for good. Its words are for the caller to fill.
    pub fn pin(&mut self, n: usize) -> Place {
        let place = self.place();
        self.record_mut(n).content = Content::Pinned(place);
        place
    }

    /// A place for frame `n`, which has none. Its words are for the caller to fill.
    pub fn keep(&mut self, n: usize) -> Place {
        let place = self.place();
        self.record_mut(n).content = Content::Kept(place);
        place
    }

    fn place(&mut self) -> Place {
        self.spare.pop().unwrap_or_else(|| {
            self.places += 1;
            Place(self.places - 1)
        })
    }

    /// The time of the last change of use.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// Notes down a broken rule.
    pub fn violation(&mut self, what: String) {
        if self.violations.len() < MOST {
            self.violations.push(what);
        }
    }
}
