//! A store on the heap, for cases.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hv_core::addr::{PAGE_SIZE, Pfn};
use hv_core::epoch::Cpu;
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::page::{Kept, NotKept, Store, StoreStats, Token, Zeroed};
use hv_core::radix::format::Place;
use hv_core::sync::Mutex;

use crate::rig::Bench;
use crate::verdict::Stop;

/// So many pages at most. A place is never used twice.
pub struct Heap {
    room: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    next: u64,
    pages: Vec<(u64, Vec<u8>)>,
    refused: u64,
    damaged: u64,
}

impl Heap {
    /// An empty store.
    pub fn new<I: Isa>(b: &Bench<'_, I>, room: usize) -> Result<Arc<Self>, Stop> {
        b.own(|| Arc::new(Self { room, shelf: Mutex::new(Shelf::default()) }))
    }

    /// How many pages it keeps.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.shelf.lock().pages.len()
    }
}

impl<M: Machine> Store<M> for Heap {
    fn keep(&self, _cpu: &Cpu, m: &M, frame: Pfn) -> Result<Kept, NotKept> {
        let mut page = [0; PAGE_SIZE];
        m.read(frame, 0, &mut page);
        let Some(last) = page.iter().rposition(|byte| *byte != 0) else { return Ok(Kept::Zeros) };
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(last + 1).map_err(|_| NotKept::Full)?;
        bytes.extend_from_slice(&page[..=last]);
        let mut shelf = self.shelf.lock();
        if shelf.pages.len() >= self.room {
            shelf.refused += 1;
            return Err(NotKept::Full);
        }
        shelf.pages.try_reserve(1).map_err(|_| NotKept::Full)?;
        shelf.next += 1;
        let place = Place::new(shelf.next).ok_or(NotKept::Full)?;
        shelf.pages.push((place.number(), bytes));
        Ok(Kept::As(Token::issue(place)))
    }

    fn bring(&self, _cpu: &Cpu, m: &M, token: &Token, page: &Zeroed) {
        let mut shelf = self.shelf.lock();
        match shelf.pages.iter().find(|(place, _)| *place == token.place().number()) {
            Some((_, bytes)) => m.write(page.pfn(), 0, bytes),
            None => shelf.damaged += 1,
        }
    }

    fn forget(&self, _cpu: &Cpu, _m: &M, token: Token) {
        let (mut shelf, place) = (self.shelf.lock(), token.into_place().number());
        match shelf.pages.iter().position(|(kept, _)| *kept == place) {
            Some(n) => _ = shelf.pages.swap_remove(n),
            None => shelf.damaged += 1,
        }
    }

    fn stats(&self) -> StoreStats {
        let shelf = self.shelf.lock();
        let bytes = shelf.pages.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        StoreStats {
            pages: shelf.pages.len() as u64,
            bytes,
            refused: shelf.refused,
            damaged: shelf.damaged,
            ..StoreStats::default()
        }
    }
}
