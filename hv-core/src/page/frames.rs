//! The frame allocator: free blocks of 4 KiB to 1 GiB, and the locks around them.
//!
//! A free frame lies in one of three places: in the cache of a CPU, in the pool of frames zeroed in advance, or in the
//! buddy. Wherever it lies it counts as free, and before anybody is told that there is no memory all three are put
//! together, which also lets neighbours merge that lay in different places.
//!
//! ```text
//!   alloc, free (one page or one huge block)      the CPU's own cache: a lock that is nobody else's, in a line of its own
//!     shelf empty, shelf full, other sizes, runs    the buddy, one batch at a time
//!       nothing there                               every cache in the order of CPUs, the pool, the buddy: take_back
//! ```
//!
//! Any CPU may call any method, with any lock held: these are the innermost. Among themselves: caches by rising CPU
//! number, then the pool, then the buddy. A frame goes to the cache of the CPU that gives it back, whoever took it.
//!
//! `take_back`, `counts` and `is_free` hold all of the locks at once, so nothing is on its way from one place to another
//! while they look:
//!
//! ```text
//!   CPU 0  alloc: cache and buddy are empty           CPU 1  free into its cache, take from it
//!   all(): which CPUs have a cache
//!          their locks, the pool's, the buddy's              waits, or is not in a cache yet
//!          has another CPU got a cache meanwhile? -> again   a CPU enrolls before it first keeps a frame
//!   drain all; take, or None                                 None: at this moment there was no such block
//! ```
//!
//! Beside all this there is a small reserve for who is freeing frames (`reserve.rs`): it is tried last, and counts apart.
//!
//! The one exception is what an idle CPU is zeroing at the moment (`zeroed.rs`), which is in nobody's place for the few
//! microseconds of a step: it is counted, and waited for rather than said not to be there.

use core::ops::Deref;

use heapless::Vec;

use super::buddy::{self, Buddy, MAX_ZONES};
use super::cache::Cache;
use super::ledger::Ledger;
use super::reserve::Reserve;
use super::zeroed::{Pool, Stock};
use super::{Frame, GuestFrame, GuestRun, Zeroed};
use crate::addr::{Order, Pfn, PfnRange};
use crate::epoch::{Cpu, MAX_CPUS, Retired};
use crate::radix::format::TableRef;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, spin_loop};

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
    /// Not allocated, and to be had by anybody.
    pub free: u64,
    /// Not allocated, and to be had only by who is freeing others.
    pub reserve: u64,
    /// Blocks given back that were not allocated, and refused. Anything but 0 is a bug in Trivet.
    pub refused: u64,
}

/// The allocator.
#[derive(Debug)]
pub struct Frames {
    /// Never change; read by everybody.
    ranges: Vec<PfnRange, MAX_ZONES>,
    caches: alloc::vec::Vec<Line<Mutex<Cache>>>,
    pool: Line<Pool>,
    shared: Line<Shared>,
    reserve: Reserve,
    ledger: Ledger,
    #[cfg(feature = "fuse")]
    fuse: super::fuse::Fuse,
}

/// That nobody frees a frame twice is a matter of types; the dev profile looks all the same. Not under the model
/// checkers, to which every lock is a branch: they have the ledger.
const LOOK_TWICE: bool = cfg!(all(debug_assertions, not(any(loom, shuttle))));

/// Something in cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Line<T>(T);

#[derive(Debug)]
struct Shared {
    /// Bit n: CPU n has shelves in its cache.
    enrolled: AtomicU64,
    buddy: Mutex<Buddy>,
    /// How often a CPU could not do with its own cache.
    #[cfg(test)]
    trips: AtomicU64,
}

/// All places where free frames lie, locked.
struct All<'a> {
    caches: Vec<MutexGuard<'a, Cache>, MAX_CPUS>,
    pool: MutexGuard<'a, Stock>,
    buddy: MutexGuard<'a, Buddy>,
}

impl<T> Deref for Line<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// What a guest's page can be made of.
pub(super) enum Found {
    /// It holds zeros.
    Clean(Zeroed),
    /// It holds anything.
    Raw(Frame),
}

impl Frames {
    /// How many words [`Frames::new`] needs for these ranges.
    #[must_use]
    pub fn metadata_words(ranges: &[PfnRange]) -> usize {
        buddy::metadata_words(ranges)
    }

    /// An allocator of all the frames in `ranges`, which nothing else uses.
    pub fn new(ranges: &[PfnRange], metadata: &'static mut [u64]) -> Result<Self, FramesError> {
        if ranges.is_empty() {
            return Err(FramesError::Ranges);
        }
        let own = Vec::from_slice(ranges).map_err(|_| FramesError::Ranges)?;
        let buddy = Buddy::new(ranges, metadata)?;
        let mut caches = alloc::vec::Vec::new();
        caches.try_reserve_exact(MAX_CPUS).map_err(|_| FramesError::Metadata)?;
        caches.resize_with(MAX_CPUS, || Line(Mutex::new(Cache::default())));
        let shared = Shared {
            enrolled: AtomicU64::new(0),
            buddy: Mutex::new(buddy),
            #[cfg(test)]
            trips: AtomicU64::new(0),
        };
        Ok(Self {
            ranges: own,
            caches,
            pool: Line(Pool::new()),
            shared: Line(shared),
            reserve: Reserve::new(),
            ledger: Ledger::default(),
            #[cfg(feature = "fuse")]
            fuse: super::fuse::Fuse::default(),
        })
    }

    /// Takes a block of `order`, aligned to its size; its content is arbitrary. `None` if no range has one.
    pub fn alloc(&self, cpu: &Cpu, order: Order) -> Option<Frame> {
        let pfn = if self.none_for_tests() { self.reserve.take(cpu, order) } else { self.take(cpu, order) }?;
        self.ledger.take(pfn, order);
        Some(Frame::owned(pfn, order))
    }

    /// Gives a block back that no guest and no walk has been shown.
    pub fn free(&self, cpu: &Cpu, frame: Frame) {
        let order = frame.order();
        let pfn = frame.into_pfn();
        if LOOK_TWICE && self.any_free(pfn, order) {
            return self.buddy().refuse(pfn, order);
        }
        self.ledger.give(pfn, order);
        if self.is_ours(pfn, order)
            && let Some(cache) = self.caches.get(usize::from(cpu.id().0))
            && cache.lock().push(pfn, order).is_ok()
        {
            return;
        }
        self.give_slowly(cpu, pfn, order);
    }

    /// Gives a guest's frames back after their grace period: translations flushed, walks over (G1, R20).
    pub fn free_guest(&self, cpu: &Cpu, frame: Retired<GuestFrame>) {
        self.free(cpu, frame.into_inner().into_frame());
    }

    /// The same for frames that lie side by side. They go past the CPU's cache, which is for single frames, and are one
    /// trip to the buddy, as the largest blocks that they make up.
    pub fn free_run(&self, cpu: &Cpu, run: Retired<GuestRun>) {
        let blocks = run.into_inner().into_blocks();
        let mut two = blocks.clone();
        if let (Some((pfn, order)), None) = (two.next(), two.next()) {
            return self.free(cpu, Frame::owned(pfn, order));
        }
        if LOOK_TWICE && let Some((pfn, order)) = blocks.clone().find(|&(pfn, order)| self.any_free(pfn, order)) {
            return self.buddy().refuse(pfn, order);
        }
        let mut buddy = self.buddy();
        for (pfn, order) in blocks {
            self.ledger.give(pfn, order);
            buddy.give(pfn, order);
        }
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

    /// True if the first frame of a block is free, or any other outside of the reserve. For checks.
    fn any_free(&self, pfn: Pfn, order: Order) -> bool {
        self.all().any_free(pfn, order) || self.reserve.has(pfn)
    }

    /// True if `pfn` is under the allocator's care and not allocated. For checks: the answer may be stale at once.
    #[must_use]
    pub fn is_free(&self, pfn: Pfn) -> bool {
        match self.ledger.is_taken(pfn) {
            Some(taken) => !taken && self.is_ours(pfn, Order::PAGE),
            None => self.any_free(pfn, Order::PAGE),
        }
    }

    /// How many frames there are just now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let total = self.ranges.iter().map(PfnRange::pages).fold(0, u64::saturating_add);
        let all = self.all();
        let kept = all.caches.iter().map(|c| c.free()).fold(all.pool.free(), u64::saturating_add);
        let (free, reserve) = (all.buddy.free().saturating_add(kept), self.reserve.frames());
        Counts { total, free, reserve, refused: all.buddy.refused() }
    }

    #[cfg(feature = "fuse")]
    pub(super) fn fuse(&self) -> &super::fuse::Fuse {
        &self.fuse
    }

    /// True if this allocation is to fail. Never in an image.
    #[inline(always)]
    fn none_for_tests(&self) -> bool {
        #[cfg(feature = "fuse")]
        return self.fuse.blows();
        #[cfg(not(feature = "fuse"))]
        false
    }

    fn take(&self, cpu: &Cpu, order: Order) -> Option<Pfn> {
        if let Some(cache) = self.caches.get(usize::from(cpu.id().0))
            && let Some(pfn) = cache.lock().pop(order)
        {
            return Some(pfn);
        }
        self.take_slowly(cpu, order)
    }

    /// What is left of `take` when the CPU's cache has none.
    #[cold]
    fn take_slowly(&self, cpu: &Cpu, order: Order) -> Option<Pfn> {
        let mut found = None;
        if order == Order::PAGE
            && let Some(mut cache) = self.cache(cpu)
            && let Some(shelves) = cache.shelves()
        {
            found = shelves.refill(&mut self.buddy());
        }
        let found = found.or_else(|| self.buddy().take(order)).or_else(|| self.take_back(order));
        found.or_else(|| self.reserve.take(cpu, order))
    }

    /// Takes a frame for the reserve. No ledger knows of it: it stays free.
    pub(super) fn spare(&self, cpu: &Cpu) -> Option<Pfn> {
        self.take(cpu, Order::PAGE)
    }

    /// Gives one back that the reserve had no room for.
    pub(super) fn return_spare(&self, cpu: &Cpu, pfn: Pfn) {
        self.give_slowly(cpu, pfn, Order::PAGE);
    }

    /// Frames for who is freeing others.
    pub(super) fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    /// What is left of `free` when the CPU's cache has no room.
    #[cold]
    fn give_slowly(&self, cpu: &Cpu, pfn: Pfn, order: Order) {
        if order == Order::PAGE
            && self.is_ours(pfn, order)
            && let Some(mut cache) = self.cache(cpu)
            && let Some(shelves) = cache.shelves()
        {
            shelves.spill(&mut self.buddy());
            if cache.push(pfn, order).is_ok() {
                return;
            }
        }
        self.buddy().give(pfn, order);
    }

    /// Takes a block that holds zeros if there is one at hand, and any other if not.
    pub(super) fn take_clean(&self, cpu: &Cpu, order: Order) -> Option<Found> {
        let clean = |pfn| {
            self.ledger.take(pfn, order);
            Some(Found::Clean(Zeroed::known(pfn, order)))
        };
        let raw = |pfn| {
            self.ledger.take(pfn, order);
            Some(Found::Raw(Frame::owned(pfn, order)))
        };
        if self.none_for_tests() {
            return raw(self.reserve.take(cpu, order)?);
        }
        if order == Order::PAGE
            && let Some(cache) = self.caches.get(usize::from(cpu.id().0))
        {
            let mut cache = cache.lock();
            if let Some(pfn) = cache.shelves().and_then(|s| s.pop_clean().or_else(|| self.pool.single_for(s))) {
                return clean(pfn);
            }
            if let Some(pfn) = cache.pop(order) {
                return raw(pfn);
            }
        } else if let Some(pfn) = self.pool.block(order) {
            return clean(pfn);
        }
        raw(self.take(cpu, order)?)
    }

    /// Keeps a block that holds zeros; it comes back if there is no room for it.
    pub(super) fn keep_clean(&self, cpu: &Cpu, zeroed: Zeroed) -> Result<(), Zeroed> {
        let order = zeroed.order();
        let pfn = zeroed.into_frame().into_pfn();
        self.ledger.give(pfn, order);
        let kept = if order == Order::PAGE {
            self.cache(cpu).map_or(Err(pfn), |mut cache| cache.shelves().map_or(Err(pfn), |s| s.push_clean(pfn)))
        } else {
            self.pool.keep_block(pfn, order)
        };
        kept.map_err(|pfn| {
            self.ledger.take(pfn, order);
            Zeroed::known(pfn, order)
        })
    }

    /// Puts all that is free together and looks once more.
    #[cold]
    fn take_back(&self, order: Order) -> Option<Pfn> {
        if order.get() > buddy::MAX_ORDER {
            return None;
        }
        loop {
            let mut all = self.all();
            all.drain(&self.pool);
            let found = all.buddy.take(order);
            if found.is_some() || !all.pool.in_hand() {
                return found;
            }
            drop(all);
            spin_loop();
        }
    }

    /// The calling CPU's cache, with shelves. `None` if there is no heap for them.
    pub(super) fn cache(&self, cpu: &Cpu) -> Option<MutexGuard<'_, Cache>> {
        let mut cache = self.caches.get(usize::from(cpu.id().0))?.lock();
        if cache.shelves().is_none() {
            // Before the first frame is kept: all() relies on it.
            self.shared.enrolled.fetch_or(1 << cpu.id().0, Ordering::AcqRel);
            if !cache.make() {
                return None;
            }
        }
        Some(cache)
    }

    /// The buddy, for those who have no lock or that of their own cache or the pool's.
    pub(super) fn buddy(&self) -> MutexGuard<'_, Buddy> {
        #[cfg(test)]
        self.shared.trips.fetch_add(1, Ordering::Relaxed);
        self.shared.buddy.lock()
    }

    /// For those who take frames from the buddy by themselves.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The pool of zeroed frames.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// True if the block is one of this allocator's.
    #[inline]
    fn is_ours(&self, pfn: Pfn, order: Order) -> bool {
        let end = |r: &PfnRange| pfn.since(r.start())?.checked_add(order.pages());
        pfn.is_aligned(order) && self.ranges.iter().any(|r| end(r).is_some_and(|end| end <= r.pages()))
    }

    /// Locks all places. The caller holds none of the locks.
    fn all(&self) -> All<'_> {
        loop {
            let enrolled = self.shared.enrolled.load(Ordering::Acquire);
            let mut caches = Vec::new();
            for (n, cache) in self.caches.iter().enumerate() {
                if enrolled.checked_shr(n as u32).is_some_and(|bits| bits & 1 == 1) {
                    let _ = caches.push(cache.lock());
                }
            }
            let (pool, buddy) = (self.pool.lock(), self.shared.buddy.lock());
            if self.shared.enrolled.load(Ordering::Acquire) == enrolled {
                return All { caches, pool, buddy };
            }
        }
    }

    /// How often a CPU needed more than its own cache.
    #[cfg(test)]
    pub(super) fn trips(&self) -> u64 {
        self.shared.trips.load(Ordering::Relaxed)
    }
}

impl All<'_> {
    fn any_free(&self, pfn: Pfn, order: Order) -> bool {
        self.buddy.any_free(pfn, order)
            || self.pool.any_free(pfn, order)
            || self.caches.iter().any(|c| c.any_free(pfn, order))
    }

    fn drain(&mut self, pool: &Pool) {
        for cache in &mut self.caches {
            cache.drain(&mut self.buddy);
        }
        pool.drain(&mut self.pool, &mut self.buddy);
    }
}
