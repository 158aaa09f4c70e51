//! The frame allocator: power-of-two blocks that split on demand and merge when both halves are free.
//!
//! Each contiguous range of RAM is a zone; each zone keeps, per order, the set of its free blocks. All of the state is
//! in words handed over at boot, about 2.1 bits a frame, so that the heap stays small and the frames themselves are
//! never touched: hv-core cannot write to a frame, and need not.
//!
//! Single frames, which is what nearly everybody wants, come from a small stock that is filled and emptied by blocks, so
//! that one of them costs a few instructions. Frames in stock count as free; a larger block that cannot be had sends the
//! stock back and tries once more, so nothing is lost to it.
//!
//! Any CPU may call any method; one lock, held for a few dozen instructions, innermost of all.

use heapless::Vec;

use super::bitmap::{Bitmap, words};
use super::{Frame, GuestFrame};
use crate::addr::{Order, Pfn, PfnRange};
use crate::epoch::{Cpu, Retired};
use crate::radix::format::TableRef;
use crate::sync::Mutex;

/// The largest block: 1 GiB.
pub const MAX_ORDER: u8 = 18;
/// The most ranges of RAM.
pub const MAX_ZONES: usize = 16;
const ORDERS: usize = MAX_ORDER as usize + 1;
/// Single frames in stock, at most.
const STOCK: usize = 64;
/// The stock is filled by blocks of up to this order, and emptied by as many frames: half of it.
const REFILL: u8 = 5;

/// Why an allocator could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramesError {
    /// No range, or more than [`MAX_ZONES`].
    Ranges,
    /// Two ranges overlap.
    Overlap,
    /// Fewer words than [`Frames::metadata_words`] asked for, or no heap.
    Metadata,
}

/// How many frames there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Under the allocator's care.
    pub total: u64,
    /// Not allocated.
    pub free: u64,
    /// Blocks given back that were not allocated, and refused. Anything but 0 is a bug in Trivet.
    pub refused: u64,
}

/// The allocator.
#[derive(Debug)]
pub struct Frames {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// On the heap: a zone is 2 KiB, and an allocator is moved about while a machine is put together.
    zones: alloc::vec::Vec<Zone>,
    /// Free single frames, latest last: the one whose lines are still in a cache.
    stock: Vec<Pfn, STOCK>,
    counts: Counts,
}

#[derive(Debug)]
struct Zone {
    range: PfnRange,
    /// Free blocks of each order; block numbers are relative to the block that holds the zone's first frame.
    free: Vec<Bitmap, ORDERS>,
}

impl Frames {
    /// How many words [`Frames::new`] needs for these ranges.
    #[must_use]
    pub fn metadata_words(ranges: &[PfnRange]) -> usize {
        ranges.iter().flat_map(|r| (0..=MAX_ORDER).map(|k| words(blocks(r, k)))).fold(0, usize::saturating_add)
    }

    /// An allocator of all the frames in `ranges`, which nothing else uses.
    pub fn new(ranges: &[PfnRange], metadata: &'static mut [u64]) -> Result<Self, FramesError> {
        if ranges.is_empty() || ranges.len() > MAX_ZONES {
            return Err(FramesError::Ranges);
        }
        let mut zones = alloc::vec::Vec::new();
        zones.try_reserve_exact(ranges.len()).map_err(|_| FramesError::Metadata)?;
        let mut counts = Counts::default();
        let mut rest = metadata;
        for range in ranges {
            if zones.iter().any(|z: &Zone| z.range.intersect(range).is_some()) {
                return Err(FramesError::Overlap);
            }
            let (zone, after) = Zone::new(*range, rest).ok_or(FramesError::Metadata)?;
            rest = after;
            counts.total = counts.total.saturating_add(range.pages());
            zones.push(zone);
        }
        counts.free = counts.total;
        Ok(Self { state: Mutex::new(State { zones, stock: Vec::new(), counts }) })
    }

    /// Takes a block of `order`, aligned to its size; its content is arbitrary. `None` if no zone has one.
    pub fn alloc(&self, _cpu: &Cpu, order: Order) -> Option<Frame> {
        let mut state = self.state.lock();
        let pfn = if order == Order::PAGE { state.take_page() } else { state.take_block(order.get()) }?;
        state.counts.free = state.counts.free.saturating_sub(order.pages());
        Some(Frame::owned(pfn, order))
    }

    /// Gives a block back that no guest and no walk has been shown.
    pub fn free(&self, _cpu: &Cpu, frame: Frame) {
        let order = frame.order();
        let pfn = frame.into_pfn();
        let mut state = self.state.lock();
        let given = if order == Order::PAGE { state.give_page(pfn) } else { state.give_block(pfn, order.get()) };
        if given {
            state.counts.free = state.counts.free.saturating_add(order.pages());
        } else {
            debug_assert!(false, "a block was freed that was not allocated: {pfn:?} {order:?}");
            state.counts.refused = state.counts.refused.saturating_add(1);
        }
    }

    /// Gives a guest's frames back after their grace period: translations flushed, walks over (G1, R20).
    pub fn free_guest(&self, cpu: &Cpu, frame: Retired<GuestFrame>) {
        self.free(cpu, frame.into_inner().into_frame());
    }

    /// Takes a block for a table. For implementations of [`crate::machine::Machine::alloc_table`], which zero it.
    pub fn alloc_table(&self, cpu: &Cpu, order: Order) -> Option<TableRef> {
        Some(TableRef::new(self.alloc(cpu, order)?.into_pfn(), order))
    }

    /// Gives a table's block back. For implementations of [`crate::machine::Machine::free_table`].
    pub fn free_table(&self, cpu: &Cpu, table: Retired<TableRef>) {
        let table = table.into_inner();
        self.free(cpu, Frame::owned(table.base(), table.order()));
    }

    /// True if `pfn` is under the allocator's care and not allocated. For checks: the answer may be stale at once.
    #[must_use]
    pub fn is_free(&self, pfn: Pfn) -> bool {
        let state = self.state.lock();
        state.stock.contains(&pfn) || state.zones.iter().any(|z| z.range.contains(pfn) && z.overlaps_free(pfn.0, 0))
    }

    /// How many frames there are just now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }
}

impl State {
    fn take_page(&mut self) -> Option<Pfn> {
        if self.stock.is_empty() {
            let (pfn, k) = (0..=REFILL).rev().find_map(|k| Some((self.take_from_zones(k)?, k)))?;
            // From above, so that they are handed out from below.
            for n in (0..1 << k).rev() {
                // A block is half the stock, which is empty.
                let _ = self.stock.push(pfn.checked_add(n)?);
            }
        }
        self.stock.pop()
    }

    fn give_page(&mut self, pfn: Pfn) -> bool {
        // Half of it, the frames that have waited longest.
        if self.stock.is_full() {
            for pfn in self.stock.drain(..1 << REFILL) {
                give_to_zones(&mut self.zones, pfn, 0);
            }
        }
        let known = self.zones.iter().any(|z| z.range.contains(pfn));
        // That nobody frees a frame twice is a matter of types; the dev profile looks all the same.
        let twice = cfg!(debug_assertions) && self.stock.contains(&pfn);
        known && !twice && self.stock.push(pfn).is_ok()
    }

    fn take_block(&mut self, k: u8) -> Option<Pfn> {
        self.take_from_zones(k).or_else(|| {
            for pfn in core::mem::take(&mut self.stock) {
                give_to_zones(&mut self.zones, pfn, 0);
            }
            self.take_from_zones(k)
        })
    }

    fn give_block(&mut self, pfn: Pfn, k: u8) -> bool {
        give_to_zones(&mut self.zones, pfn, k)
    }

    fn take_from_zones(&mut self, k: u8) -> Option<Pfn> {
        self.zones.iter_mut().find_map(|z| z.take(k))
    }
}

fn give_to_zones(zones: &mut [Zone], pfn: Pfn, k: u8) -> bool {
    zones.iter_mut().find(|z| z.range.contains(pfn)).is_some_and(|z| z.give(pfn, k))
}

/// How many blocks of order `k` touch the range.
fn blocks(range: &PfnRange, k: u8) -> usize {
    let first = range.start().0 >> k;
    let last = (range.end().0.saturating_sub(1)) >> k;
    usize::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or(usize::MAX)
}

impl Zone {
    fn new(range: PfnRange, memory: &'static mut [u64]) -> Option<(Self, &'static mut [u64])> {
        let mut free = Vec::new();
        let mut rest = memory;
        for k in 0..=MAX_ORDER {
            let (map, after) = Bitmap::new(blocks(&range, k), rest)?;
            rest = after;
            free.push(map).ok()?;
        }
        let mut zone = Self { range, free };
        // Cover the range with the largest blocks that fit.
        let mut pfn = range.start().0;
        while pfn < range.end().0 {
            let left = range.end().0.saturating_sub(pfn);
            let k = (0..=MAX_ORDER).rev().find(|&k| pfn & ((1 << k) - 1) == 0 && 1 << k <= left)?;
            zone.insert(pfn, k);
            pfn = pfn.checked_add(1 << k)?;
        }
        Some((zone, rest))
    }

    /// The number of the block of order `k` that holds `pfn`.
    fn index(&self, pfn: u64, k: u8) -> Option<usize> {
        usize::try_from((pfn >> k).checked_sub(self.range.start().0 >> k)?).ok()
    }

    fn insert(&mut self, pfn: u64, k: u8) -> bool {
        let Some(n) = self.index(pfn, k) else { return false };
        self.free.get_mut(usize::from(k)).is_some_and(|map| map.insert(n))
    }

    fn remove(&mut self, pfn: u64, k: u8) -> bool {
        let Some(n) = self.index(pfn, k) else { return false };
        self.free.get_mut(usize::from(k)).is_some_and(|map| map.remove(n))
    }

    /// Takes a block of order `k` out of the smallest free block that has one; the halves it splits off stay free.
    fn take(&mut self, k: u8) -> Option<Pfn> {
        let (mut have, n) = (k..=MAX_ORDER).find_map(|j| Some((j, self.free.get(usize::from(j))?.first()?)))?;
        let pfn = (self.range.start().0 >> have).checked_add(n as u64)? << have;
        self.remove(pfn, have);
        while have > k {
            have = have.checked_sub(1)?;
            self.insert(pfn | 1 << have, have);
        }
        Some(Pfn(pfn))
    }

    /// Takes a block back, merging it with its other half as far as that is free. False if it is none of this zone's; the
    /// dev profile also notices if any of it is free already.
    fn give(&mut self, pfn: Pfn, k: u8) -> bool {
        let block = PfnRange::new(pfn, 1 << k);
        let sane = k <= MAX_ORDER && pfn.0 & ((1 << k) - 1) == 0 && block.is_some_and(|b| self.range.covers(&b));
        if !sane || (cfg!(debug_assertions) && self.overlaps_free(pfn.0, k)) {
            return false;
        }
        let (mut at, mut order) = (pfn.0, k);
        while order < MAX_ORDER && self.remove(at ^ 1 << order, order) {
            at &= !(1 << order);
            order = order.saturating_add(1);
        }
        self.insert(at, order)
    }

    /// True if the block, or a block that contains it, is free. (A free part of an allocated block would need a
    /// [`Frame`] of that part, which nobody can have.)
    fn overlaps_free(&self, pfn: u64, k: u8) -> bool {
        (k..=MAX_ORDER).any(|j| {
            let n = self.index(pfn, j);
            n.is_some_and(|n| self.free.get(usize::from(j)).is_some_and(|map| map.contains(n)))
        })
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::collections::BTreeMap;

    use super::{Counts, Frames, FramesError, MAX_ORDER};
    use crate::addr::{Order, Pfn, PfnRange};
    use crate::epoch::Domain;
    use crate::machine::CpuId;
    use crate::page::Frame;

    fn frames(ranges: &[(u64, u64)]) -> Frames {
        let ranges: Vec<_> = ranges.iter().map(|&(at, n)| PfnRange::new(Pfn(at), n).unwrap()).collect();
        Frames::new(&ranges, vec![0; Frames::metadata_words(&ranges)].leak()).unwrap()
    }

    fn o(k: u8) -> Order {
        Order::new(k).unwrap()
    }

    #[test]
    fn g1_blocks_never_overlap_and_all_come_back() {
        let (domain, id) = (Domain::new(), CpuId(0));
        let cpu = domain.cpu(id).unwrap();
        let all = frames(&[(3, 1000), (5000, 7)]);
        let start = all.counts();
        assert_eq!(start, Counts { total: 1007, free: 1007, refused: 0 });
        let mut held: BTreeMap<u64, Frame> = BTreeMap::new();
        let mut x = 1_u64;
        for _ in 0..20_000 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let order = o((x >> 40) as u8 % 6);
            if x >> 60 < 9 {
                let Some(frame) = all.alloc(&cpu, order) else { continue };
                let (at, end) = (frame.pfn().0, frame.pfn().0 + order.pages());
                assert!(order.aligned(at));
                assert!((at >= 3 && end <= 1003) || (at >= 5000 && end <= 5007));
                let before = held.range(..end).next_back();
                assert!(before.is_none_or(|(b, f)| b + f.order().pages() <= at));
                held.insert(at, frame);
            } else if let Some(&at) = held.range(x >> 54..).next().map(|(at, _)| at) {
                all.free(&cpu, held.remove(&at).unwrap());
            }
            let out: u64 = held.values().map(|f| f.order().pages()).sum();
            assert_eq!(all.counts().free, start.total - out);
        }
        for (_, frame) in held {
            all.free(&cpu, frame);
        }
        assert_eq!(all.counts(), start);
        let big = all.alloc(&cpu, o(8)).expect("free halves merge");
        all.free(&cpu, big);
    }

    #[test]
    fn p8_exhaustion_is_an_answer() {
        let (domain, id) = (Domain::new(), CpuId(0));
        let cpu = domain.cpu(id).unwrap();
        let few = frames(&[(0, 3)]);
        assert!(few.alloc(&cpu, o(2)).is_none());
        let (a, b) = (few.alloc(&cpu, o(1)).unwrap(), few.alloc(&cpu, o(0)).unwrap());
        assert!(few.alloc(&cpu, o(0)).is_none());
        assert!(!few.is_free(Pfn(2)));
        few.free(&cpu, a);
        few.free(&cpu, b);
        assert!(few.is_free(Pfn(2)) && !few.is_free(Pfn(3)));
    }

    #[test]
    fn metadata_is_two_bits_a_frame_and_its_lack_is_noticed() {
        let gib = PfnRange::new(Pfn(0), 1 << MAX_ORDER).unwrap();
        let words = Frames::metadata_words(&[gib]);
        assert!(words * 64 < (1 << MAX_ORDER) * 22 / 10);
        let short = vec![0; words - 1].leak();
        assert_eq!(Frames::new(&[gib], short).err(), Some(FramesError::Metadata));
        let enough = vec![0; 2 * words].leak();
        assert_eq!(Frames::new(&[gib, gib], enough).err(), Some(FramesError::Overlap));
        assert_eq!(Frames::new(&[], &mut []).err(), Some(FramesError::Ranges));
    }
}
