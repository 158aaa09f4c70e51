//! The only names of atomics, fences, locks and spin hints in hv-core.
//!
//! Three flavours behind one set of names: `core` (what boots), `loom` (`--cfg loom`, judges protocols exhaustively
//! under C11) and `shuttle` (`--cfg shuttle`, larger random worlds). The source above this module is the same in all
//! three. Constructors are `const` in the core flavour only, because the checkers' types allocate.

#[cfg(not(any(loom, shuttle)))]
#[path = "core_flavour.rs"]
mod flavour;
#[cfg(loom)]
#[path = "loom_flavour.rs"]
mod flavour;
#[cfg(shuttle)]
#[path = "shuttle_flavour.rs"]
mod flavour;

mod rank;
#[cfg(any(loom, shuttle))]
mod unseen;

pub use flavour::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, fence, spin_loop,
};
pub use rank::{Rank, Ranked, RankedGuard};
#[cfg(any(loom, shuttle))]
pub(crate) use unseen::Unseen;

/// Whether worlds are small, so that all of one can be explored: a table has one index bit a level, a huge page is two small
/// ones, and nobody keeps more than he must. So it is under the checkers, and where `--cfg small` asks for it: Miri runs one
/// order of events at a time, but each a thousand times slower.
pub const SMALL: bool = cfg!(any(loom, shuttle, small));
