//! A store in memory: pages packed by LZ4, several to a frame.
//!
//! ```text
//!   frame   | next | prev | used, fresh, free |  chunk 0  |  chunk 1  | ... |          all chunks of one size
//!   chunk     length (2 bytes), LZ4 block     or, of the smallest size, the word that a page repeats
//!             in a free one: the number of the next free one
//!   place     | frame number (39 bits) | class of size (4) | chunk (9) |
//! ```
//!
//! All of its account lies in its frames, so it takes no heap however much it keeps. For each size there is a list of the
//! frames that have a free chunk: one is found, and given back, in constant time. A frame of which nothing is left goes back
//! to the allocator. A page that does not pack into the largest size, half a frame, is refused: it would free nothing.
//!
//! Locks: the desk's for packing, then the shelves' for a chunk; both outside of the allocator's. To bring a page takes
//! neither: who has a token knows where its chunk is, and nobody writes there.

mod chunk;

use alloc::vec::Vec;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use self::chunk::{Chunk, Header, NO_CHUNK, NONE, SIZES, link};
use super::swap::{Kept, NotKept};
use super::{Frame, Store, StoreStats, Token, Zeroed};
use crate::addr::{Order, PAGE_SIZE, Pfn};
use crate::epoch::Cpu;
use crate::machine::Machine;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The bytes of a chunk before what it keeps.
const LENGTH: usize = 2;
/// The most that a chunk keeps.
const MOST: usize = SIZES[SIZES.len() - 1] as usize - LENGTH;
/// What LZ4 may make of a page that it cannot pack.
const WORST: usize = get_maximum_output_size(PAGE_SIZE);

/// Bytes that lie where a machine copies them word by word.
#[derive(Debug)]
#[repr(align(8))]
struct ByWord<const N: usize>([u8; N]);

/// The store.
#[derive(Debug)]
pub struct Packed {
    /// One, on the heap.
    desk: Mutex<Vec<Desk>>,
    /// Of each size, the first frame that has a free chunk.
    shelves: Mutex<[u64; SIZES.len()]>,
    pages: AtomicU64,
    same: AtomicU64,
    bytes: AtomicU64,
    frames: AtomicU64,
    refused: AtomicU64,
    damaged: AtomicU64,
}

/// Where a page is packed.
struct Desk {
    page: ByWord<PAGE_SIZE>,
    packed: [u8; LENGTH + WORST],
    table: CompressTable,
}

impl core::fmt::Debug for Desk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Desk")
    }
}

impl Packed {
    /// An empty store, which takes about 20 KiB of heap, once; `None` if there is none.
    #[must_use]
    pub fn new() -> Option<Self> {
        let mut desk = Vec::new();
        desk.try_reserve_exact(1).ok()?;
        desk.push(Desk { page: ByWord([0; PAGE_SIZE]), packed: [0; LENGTH + WORST], table: CompressTable::small() });
        let zero = || AtomicU64::new(0);
        Some(Self {
            desk: Mutex::new(desk),
            shelves: Mutex::new([NONE; SIZES.len()]),
            pages: zero(),
            same: zero(),
            bytes: zero(),
            frames: zero(),
            refused: zero(),
            damaged: zero(),
        })
    }

    /// Packs what is in `frame`, and puts it into a chunk.
    fn pack<M: Machine>(&self, cpu: &Cpu, m: &M, frame: Pfn) -> Result<Kept, NotKept> {
        let mut desk = self.desk.lock();
        let Desk { page, packed, table } = desk.first_mut().ok_or(NotKept::Full)?;
        let page = &mut page.0;
        m.read(frame, 0, page);
        let same = repeated(page);
        let (class, kept) = match &same {
            Some(word) if *word == [0; 8] => return Ok(Kept::Zeros),
            Some(word) => (0, word.as_slice()),
            None => {
                let (length, block) = packed.split_at_mut(LENGTH);
                let bytes = compress_into_with_table(page, block, table).unwrap_or(PAGE_SIZE);
                length.copy_from_slice(&(bytes as u16).to_le_bytes());
                let size = LENGTH.saturating_add(bytes);
                let fits = |most: &u16| size <= usize::from(*most);
                let class = SIZES.iter().skip(1).position(fits).ok_or(NotKept::Unpackable)?.saturating_add(1);
                (class, packed.get(..size).ok_or(NotKept::Unpackable)?)
            }
        };
        let chunk = self.take(cpu, m, class).ok_or(NotKept::Full)?;
        let token = Token::issue(chunk.place().ok_or(NotKept::Full)?);
        m.write(chunk.pfn, chunk.offset(), kept);
        self.pages.fetch_add(1, Ordering::Relaxed);
        match same {
            Some(_) => self.same.fetch_add(1, Ordering::Relaxed),
            None => self.bytes.fetch_add(kept.len() as u64, Ordering::Relaxed),
        };
        Ok(Kept::As(token))
    }

    /// Unpacks a chunk into `page`. `None` if what is in it is nothing that was put there.
    fn unpack<M: Machine>(m: &M, chunk: Chunk, page: &mut [u8; PAGE_SIZE]) -> Option<()> {
        let mut kept = ByWord([0; LENGTH + MOST]);
        let kept = kept.0.get_mut(..usize::from(*SIZES.get(chunk.class)?))?;
        let kept = kept.get_mut(..LENGTH.saturating_add(chunk.length(m)))?;
        m.read(chunk.pfn, chunk.offset(), kept);
        let unpacked = decompress_into(kept.get(LENGTH..)?, page).ok()?;
        (unpacked == PAGE_SIZE).then_some(())
    }

    /// Takes a chunk; `None` if that takes a frame and there is none.
    fn take<M: Machine>(&self, cpu: &Cpu, m: &M, class: usize) -> Option<Chunk> {
        let mut shelves = self.shelves.lock();
        let shelf = shelves.get_mut(class)?;
        if *shelf == NONE {
            // Zeroed, so that the machine takes it for one whose bytes may be read.
            let frame = m.frames().alloc(cpu, Order::PAGE)?.zero(m).into_frame();
            if (Chunk { pfn: frame.pfn(), class, number: 0 }).place().is_none() {
                m.frames().free(cpu, frame);
                return None;
            }
            self.frames.fetch_add(1, Ordering::Relaxed);
            *shelf = frame.into_pfn().0;
            Header { next: NONE, prev: NONE, used: 0, fresh: 0, free: NO_CHUNK }.store(m, Pfn(*shelf));
        }
        let pfn = Pfn(*shelf);
        let mut header = Header::load(m, pfn);
        let mut chunk = Chunk { pfn, class, number: header.free };
        if header.free == NO_CHUNK {
            chunk.number = header.fresh;
            header.fresh = header.fresh.saturating_add(1);
        } else {
            header.free = chunk.next_free(m);
        }
        header.used = header.used.saturating_add(1);
        if header.is_full(class) {
            *shelf = header.next;
            link(m, header.next, |next| next.prev = NONE);
            header.next = NONE;
        }
        header.store(m, pfn);
        Some(chunk)
    }

    /// Gives a chunk back, and its frame if that was the last.
    fn give<M: Machine>(&self, cpu: &Cpu, m: &M, chunk: Chunk) {
        let mut shelves = self.shelves.lock();
        let Some(shelf) = shelves.get_mut(chunk.class) else { return };
        let mut header = Header::load(m, chunk.pfn);
        let was_full = header.is_full(chunk.class);
        chunk.set_next_free(m, header.free);
        header.free = chunk.number;
        header.used = header.used.saturating_sub(1);
        if was_full {
            header.next = *shelf;
            link(m, *shelf, |next| next.prev = chunk.pfn.0);
            *shelf = chunk.pfn.0;
        }
        header.store(m, chunk.pfn);
        if header.used == 0 {
            link(m, header.next, |next| next.prev = header.prev);
            link(m, header.prev, |prev| prev.next = header.next);
            if header.prev == NONE {
                *shelf = header.next;
            }
            self.frames.fetch_sub(1, Ordering::Relaxed);
            // No guest and no walk was shown it.
            m.frames().free(cpu, Frame::owned(chunk.pfn, Order::PAGE));
        }
    }
}

impl<M: Machine> Store<M> for Packed {
    fn keep(&self, cpu: &Cpu, m: &M, frame: Pfn) -> Result<Kept, NotKept> {
        self.pack(cpu, m, frame).inspect_err(|_| _ = self.refused.fetch_add(1, Ordering::Relaxed))
    }

    #[inline(never)]
    fn bring(&self, _cpu: &Cpu, m: &M, token: &Token, page: &Zeroed) {
        let chunk = Chunk::at(token.place());
        if chunk.class == 0 {
            let mut word = [0; 8];
            m.read(chunk.pfn, chunk.offset(), &mut word);
            return m.fill(page.pfn(), word);
        }
        let mut bytes = ByWord([0; PAGE_SIZE]);
        if Self::unpack(m, chunk, &mut bytes.0).is_some() {
            m.write(page.pfn(), 0, &bytes.0);
        } else {
            debug_assert!(false, "the store's own memory was overwritten");
            self.damaged.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn forget(&self, cpu: &Cpu, m: &M, token: Token) {
        let chunk = Chunk::at(token.into_place());
        self.pages.fetch_sub(1, Ordering::Relaxed);
        if chunk.class == 0 {
            self.same.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(LENGTH.saturating_add(chunk.length(m)) as u64, Ordering::Relaxed);
        }
        self.give(cpu, m, chunk);
    }

    fn stats(&self) -> StoreStats {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        StoreStats {
            pages: load(&self.pages),
            same: load(&self.same),
            bytes: load(&self.bytes),
            frames: load(&self.frames),
            refused: load(&self.refused),
            damaged: load(&self.damaged),
        }
    }
}

/// The word that the page consists of, if it is one over and over.
fn repeated(page: &[u8; PAGE_SIZE]) -> Option<[u8; 8]> {
    let (first, rest) = page.split_first_chunk::<8>()?;
    rest.chunks_exact(8).all(|word| word == first).then_some(*first)
}
