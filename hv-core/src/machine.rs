//! The seam, second half: the physical machine and the board it sits on.

use crate::addr::{Order, PAGE_SIZE, Pfn};
use crate::epoch::{Cpu, Domain, Retired, WalkGuard};
use crate::isa::Isa;
use crate::mmu::flush::{FlushBatch, Flushed};
use crate::page::Frames;
use crate::radix::format::TableRef;
use crate::sync::AtomicU64;

/// A point in time, in ticks of the machine's counter since an arbitrary start. Monotonic on and across CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    /// Later than anything a timer can be set to.
    pub const NEVER: Self = Self(u64::MAX);
    /// This instant plus `ticks`, or [`Instant::NEVER`] if that is past the end of time.
    #[must_use]
    pub const fn after(self, ticks: u64) -> Self {
        Self(self.0.saturating_add(ticks))
    }
}

/// Number of a physical CPU, dense from 0 (the boot CPU).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuId(pub u16);

/// The machine: memory, translation caches, other CPUs, the clock.
///
/// Contract: a cell lent by [`Machine::pte`] stays valid while the guard lives (R2); after [`Machine::flush`] returned
/// no CPU holds a translation that the batch names (R9). Frames are named by number; only this trait's methods
/// reach their bytes.
pub trait Machine: Sync {
    /// The epoch domain that every CPU of this machine belongs to.
    fn epoch(&self) -> &Domain;
    /// The allocator of every frame that neither firmware nor Trivet's image holds.
    fn frames(&self) -> &Frames;
    /// Entry `slot` of a table.
    fn pte<'g>(&'g self, g: &'g WalkGuard<'_>, table: TableRef, slot: usize) -> &'g AtomicU64;
    /// A zeroed table page of `order` (64 KiB roots, hashed tables); `None` when memory is out.
    fn alloc_table(&self, cpu: &Cpu, order: Order) -> Option<TableRef>;
    /// The same with entries that say anything, for a caller who writes all of them before anybody else sees the table.
    fn alloc_table_to_fill(&self, cpu: &Cpu, order: Order) -> Option<TableRef>;
    /// Takes a table back after its grace period.
    fn free_table(&self, cpu: &Cpu, t: Retired<TableRef>);
    /// Fills the `order` frames from `first`, which the caller owns and no guest can reach yet, with zeros.
    fn zero(&self, first: Pfn, order: Order);
    /// Copies one frame's 4 KiB to another, which the caller owns and no guest can reach yet. Nobody writes to `from`.
    fn copy(&self, from: Pfn, to: Pfn);
    /// Copies bytes out of a frame that a guest may be writing: each byte is read once, torn values are possible (R26).
    /// `offset + into.len()` is at most the frame's size (4 KiB).
    fn read(&self, frame: Pfn, offset: usize, into: &mut [u8]);
    /// Copies bytes into a frame that a guest may be using.
    fn write(&self, frame: Pfn, offset: usize, from: &[u8]);
    /// Fills a frame, which the caller owns and no guest can reach yet, with one word, as memory holds it.
    fn fill(&self, frame: Pfn, word: [u8; 8]) {
        (0..PAGE_SIZE).step_by(word.len()).for_each(|at| self.write(frame, at, &word));
    }
    /// Makes every CPU drop the translations that `batch` names, and returns the receipt that frees what it held back.
    fn flush(&self, batch: FlushBatch) -> Flushed;
    /// Makes `cpu` leave its guest, or wake if it idles, soon.
    fn kick(&self, cpu: CpuId);
    /// Takes the physical interrupts that wait on the calling CPU, and says what they were about beside kicks.
    fn interrupts(&self, cpu: &Cpu) -> Interrupts;
    /// Now.
    fn now(&self) -> Instant;
    /// Ticks of [`Instant`] in a second.
    fn ticks_per_second(&self) -> u64;
    /// Seconds since 1970-01-01 00:00 UTC; 0 if the machine has no calendar clock.
    fn wall_clock(&self) -> u64;
    /// A random number from the machine's own source, if it has one.
    fn random(&self) -> Option<u64>;
    /// How many tags a CPU's translation caches have, and how many all CPUs have given out since the boot; 0 and 0 where a VM
    /// has its [`crate::isa::VmTag`] for good. For statistics.
    fn tags(&self) -> [u64; 2] {
        [0, 0]
    }
    /// Sleeps until `until`, a kick or a device's interrupt; may return early.
    fn idle(&self, cpu: &Cpu, until: Instant);
}

bitflags::bitflags! {
    /// What physical interrupts were about. A kick needs no answer and has no flag.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Interrupts: u32 {
        /// The operator's console has input.
        const CONSOLE = 1 << 0;
    }
}

/// How the machine's run ended; the board turns it into an exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every guest ended well.
    Success,
    /// A guest or Trivet failed.
    Failure,
}

/// A console's byte pipe. Both ends may be shared by all CPUs.
pub trait Console: Sync {
    /// Writes all of `bytes`, waiting for the device if need be.
    fn write(&self, bytes: &[u8]);
    /// Takes what has been typed, without waiting; returns how many bytes were put into `into`.
    fn read(&self, into: &mut [u8]) -> usize;
}

/// One board, implemented in `boards/<name>/src/main.rs`, which also wires the objects of a boot together.
pub trait Board: 'static {
    /// The board's instruction set.
    type Isa: Isa;
    /// The operator's console.
    fn console() -> &'static dyn Console;
    /// Starts a physical CPU; it arrives in hv-core's scheduler.
    fn start_cpu(id: CpuId) -> Result<(), StartCpuError>;
    /// Ends the run.
    fn power_off(verdict: Verdict) -> !;
}

/// Firmware would not start a CPU; carries its own code. Or nobody asked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartCpuError(pub i64);

impl StartCpuError {
    /// There is no heap for its stack. No firmware's code.
    pub const NO_HEAP: Self = Self(i64::MIN);
}

impl core::fmt::Display for StartCpuError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::NO_HEAP => f.write_str("there is no heap for its stack"),
            Self(code) => write!(f, "firmware says {code}"),
        }
    }
}
