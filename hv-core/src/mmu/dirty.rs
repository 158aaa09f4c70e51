//! The dirty log: which pages of a VM were stored to since they were last asked for.
//!
//! ```text
//!   start    bits taken -> root published -> grace: from here on every writer sees the log
//!            brackets over pieces: stores made noticeable, flush                                  (dirty/harvest.rs)
//!   writers  a vCPU    its store faults: W leaf of 4 KiB and bit, in one commit section           (WriteProtect)
//!                      or hardware sets C in a leaf of 4 KiB                                      (HardwareBits)
//!            hypervisor: walk guard { store, then bit }
//!   harvest  pieces with bits: bracket, grace -> bits taken -> stores made noticeable again -> flush -> closed -> reported
//!   stop     root cleared -> grace -> bits freed; large translations may come back
//! ```
//!
//! **No store is lost** (R16, G4). Three agents store; a harvest takes the bits of a piece and then reports it:
//!
//! - A vCPU whose store faulted. Section before the harvest's fence: the grace waits for it, bit and leaf are there and both
//!   are taken. Section after it: it meets the bracket, and nothing is published.
//! - A vCPU that stores through a leaf that is there: its bit is set since the leaf was published. A store up to the flush
//!   is made before the pages are reported, so who then reads them reads it (R14); after the flush it faults.
//! - The hypervisor: the bit is set after the store, in the same guard. A harvest that comes between takes no bit, and the
//!   next one does. Set before the store, the bit could be reported, and the page read, before the store lands.
//!
//! **Which method is the table's business** ([`DirtyMethod`], exhibit E4), and the log holds bits for both: with hardware's,
//! what a leaf says as it is removed is noted before the flush and under the mmu lock, and bits are taken under it only.
//!
//! With the log on no translation is published larger than 4 KiB, since it would be one bit for many pages (R11, exhibit
//! E6), and where stores are noticed by their faults none is writable that was not stored to. What was mapped large before
//! stays, without the right to store, until a store breaks it up (`map::replace`). Where the guest chose the size all of
//! the translation counts as stored to.
//!
//! Bits are kept by host page: what two windows show is one page. Discarding pages counts as storing to them; moving them to
//! another frame, or out to a store and back, does not. A page of a shared object is logged by the VM that stores to it.
//!
//! Memory: a bit a page, in frames of their own (128 MiB of pages each) found through an index, so that any fragmented
//! memory will do. Only start and stop write the root; who reads it relaxed and finds none need not mark.

mod bits;
mod harvest;

pub use bits::DirtyLog;
pub use harvest::{Found, Harvest, PendingHarvest};

#[cfg(doc)]
use crate::isa::DirtyMethod;

/// Why a log was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogError {
    /// No frames for its bits.
    NoMemory,
}
