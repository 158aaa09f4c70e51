//! Frames that hold zeros already: a CPU with nothing to run makes them, a fault takes them.
//!
//! ```text
//!   idle CPU: refill                       fault: take
//!     lock; take frames; unlock              its own cache has a zeroed frame -> that
//!     zero 64 KiB                            the pool has some -> a batch into the cache (single frames), or the block
//!     lock; put them into the pool; unlock   neither -> any frame, zeroed now
//! ```
//!
//! A step is short, so that a CPU that is called has at most 64 KiB to finish; a huge block takes many, and lies in the
//! pool unfinished between them. One CPU at a time is at it. The pool is small, and never more than a small share of what
//! is free.
//!
//! Who takes looks at one word before the lock: while no CPU is idle nobody writes it, and a fault costs what it would
//! without a pool. The word is a hint; the lock decides. The pool's frames are free ones: they count as such, and
//! [`super::Frames`] takes them back before it says that there are none.

use heapless::Vec;

use super::buddy::Buddy;
use super::cache::{Shelves, meet};
use super::frame::Zeroed;
use super::frames::Found;
use crate::addr::{Order, Pfn};
use crate::epoch::Cpu;
use crate::host::HUGE;
use crate::machine::Machine;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, SMALL};

/// Single frames in the pool, at most.
const SINGLES: usize = if SMALL { 1 } else { 64 };
/// Huge blocks in the pool, at most.
const BLOCKS: usize = if SMALL { 1 } else { 4 };
/// What one step zeroes: 64 KiB.
const STEP: Order = match Order::new(if SMALL { 0 } else { 4 }) {
    Some(order) => order,
    None => Order::PAGE,
};
/// The pool may hold one in so many of the free frames.
const SHARE: u64 = if SMALL { 1 } else { 64 };

/// The hint's bits: there are single frames, there are huge blocks.
const HAS_SINGLES: u64 = 1 << 0;
const HAS_BLOCKS: u64 = 1 << 1;

/// What [`refill`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refill {
    /// A step's worth was zeroed; more may be wanted.
    Step,
    /// Nothing: the pool is full, memory is short, or another CPU is at it.
    Enough,
}

/// Takes a block of `order` that holds zeros; `None` if memory is out. Any CPU.
pub fn take<M: Machine>(cpu: &Cpu, m: &M, order: Order) -> Option<Zeroed> {
    match m.frames().take_clean(cpu, order)? {
        Found::Clean(zeroed) => Some(zeroed),
        Found::Raw(frame) => Some(frame.zero(m)),
    }
}

/// Gives back a block that nobody was shown, so that it still holds zeros.
pub fn give<M: Machine>(cpu: &Cpu, m: &M, zeroed: Zeroed) {
    if let Err(zeroed) = m.frames().keep_clean(cpu, zeroed) {
        m.frames().free(cpu, zeroed.into_frame());
    }
}

/// Zeroes some frames in advance, in a few microseconds. For a CPU that has nothing to run.
pub fn refill<M: Machine>(m: &M) -> Refill {
    let frames = m.frames();
    let pool = frames.pool();
    let Some(step) = pool.lock().begin(&mut frames.buddy()) else { return Refill::Enough };
    let (block, order) = step.block();
    frames.ledger().take(block, order);
    m.zero(step.first(), STEP);
    frames.ledger().give(block, order);
    let mut stock = pool.lock();
    stock.end(step);
    pool.tell(&stock);
    Refill::Step
}

/// The pool.
#[derive(Debug)]
pub(super) struct Pool {
    hint: AtomicU64,
    stock: Mutex<Stock>,
}

/// What is in the pool.
#[derive(Debug, Default)]
pub(super) struct Stock {
    singles: Vec<Pfn, SINGLES>,
    /// One more than there should be: a block may be given back while one is in hand.
    blocks: Vec<Pfn, { BLOCKS + 1 }>,
    begun: Option<Begun>,
    /// Frames of a step that is being made.
    in_hand: u64,
}

/// A huge block whose first pages hold zeros.
#[derive(Clone, Copy, Debug)]
struct Begun {
    block: Pfn,
    done: u64,
}

/// What one call of [`refill`] works on.
#[derive(Debug)]
enum Step {
    Singles(Pfn),
    PartOf(Begun),
}

impl Step {
    /// What is in hand.
    fn block(&self) -> (Pfn, Order) {
        match self {
            Self::Singles(first) => (*first, STEP),
            Self::PartOf(begun) => (begun.block, HUGE),
        }
    }

    /// The first frame to be zeroed.
    fn first(&self) -> Pfn {
        match self {
            Self::Singles(first) => *first,
            Self::PartOf(begun) => Pfn(begun.block.0 | begun.done),
        }
    }
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Self {
        Self { hint: AtomicU64::new(0), stock: Mutex::new(Stock::default()) }
    }

    /// Takes a frame, and fills a CPU's shelf with more.
    pub fn single_for(&self, shelves: &mut Shelves) -> Option<Pfn> {
        if self.hint.load(Ordering::Relaxed) & HAS_SINGLES == 0 {
            return None;
        }
        let mut stock = self.lock();
        let found = stock.singles.pop();
        while let Some(pfn) = stock.singles.last()
            && shelves.push_clean(*pfn).is_ok()
        {
            stock.singles.pop();
        }
        self.tell(&stock);
        found
    }

    /// Takes a block of `order`.
    pub fn block(&self, order: Order) -> Option<Pfn> {
        if order != HUGE || self.hint.load(Ordering::Relaxed) & HAS_BLOCKS == 0 {
            return None;
        }
        let mut stock = self.lock();
        let found = stock.blocks.pop();
        self.tell(&stock);
        found
    }

    /// Keeps a zeroed block; it comes back if it is none of the kept size, or there are enough.
    pub fn keep_block(&self, pfn: Pfn, order: Order) -> Result<(), Pfn> {
        let mut stock = self.lock();
        if order != HUGE || stock.blocks.len() >= BLOCKS {
            return Err(pfn);
        }
        stock.blocks.push(pfn)?;
        self.tell(&stock);
        Ok(())
    }

    /// Locks it.
    pub fn lock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock()
    }

    /// Gives everything to the buddy.
    pub fn drain(&self, stock: &mut Stock, buddy: &mut Buddy) {
        while let Some(pfn) = stock.singles.pop() {
            buddy.give(pfn, Order::PAGE);
        }
        while let Some(pfn) = stock.blocks.pop().or_else(|| Some(stock.begun.take()?.block)) {
            buddy.give(pfn, HUGE);
        }
        self.tell(stock);
    }

    /// Says what there is.
    fn tell(&self, stock: &Stock) {
        let singles = if stock.singles.is_empty() { 0 } else { HAS_SINGLES };
        let blocks = if stock.blocks.is_empty() { 0 } else { HAS_BLOCKS };
        self.hint.store(singles | blocks, Ordering::Relaxed);
    }
}

impl Stock {
    /// How many frames it holds, those in hand included.
    pub fn free(&self) -> u64 {
        let blocks = self.blocks.len().saturating_add(self.begun.iter().len()) as u64;
        blocks.saturating_mul(HUGE.pages()).saturating_add(self.singles.len() as u64).saturating_add(self.in_hand)
    }

    /// True if a step is being made: its frames are in nobody's place.
    pub fn in_hand(&self) -> bool {
        self.in_hand != 0
    }

    /// True if any frame of the block lies here.
    pub fn any_free(&self, pfn: Pfn, order: Order) -> bool {
        let mut blocks = self.blocks.iter().copied().chain(self.begun.map(|b| b.block));
        blocks.any(|at| meet((at, HUGE), (pfn, order)))
            || self.singles.iter().any(|&at| meet((at, Order::PAGE), (pfn, order)))
    }

    /// Takes frames out for a step, if one is wanted.
    fn begin(&mut self, buddy: &mut Buddy) -> Option<Step> {
        if self.in_hand() {
            return None;
        }
        // What the pool may still take.
        let room = (buddy.free() / SHARE).saturating_sub(self.free());
        let singles = SINGLES.saturating_sub(self.singles.len()) as u64;
        let step = if STEP.pages() <= room.min(singles) {
            Step::Singles(buddy.take(STEP)?)
        } else if let Some(begun) = self.begun.take() {
            Step::PartOf(begun)
        } else if self.blocks.len() < BLOCKS && HUGE.pages() <= room {
            Step::PartOf(Begun { block: buddy.take(HUGE)?, done: 0 })
        } else {
            return None;
        };
        self.in_hand = step.block().1.pages();
        Some(step)
    }

    /// Puts in what a step has zeroed. There is room: only steps bring single frames, and one at a time.
    fn end(&mut self, step: Step) {
        self.in_hand = 0;
        match step {
            Step::Singles(first) => {
                for n in 0..STEP.pages() {
                    let pushed = self.singles.push(Pfn(first.0 | n));
                    debug_assert!(pushed.is_ok(), "begin() did not look for room");
                }
            }
            Step::PartOf(Begun { block, done }) => {
                let done = done.saturating_add(STEP.pages());
                if done < HUGE.pages() {
                    self.begun = Some(Begun { block, done });
                } else {
                    let pushed = self.blocks.push(block);
                    debug_assert!(pushed.is_ok(), "keep_block() left no room");
                }
            }
        }
    }
}
