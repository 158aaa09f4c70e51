//! Physical frames: who has them, and what they may be used for.
//!
//! ```text
//!   frame.rs    Frame, Zeroed, GuestFrame, GuestRun: ownership as values
//!   frames.rs   Frames, the allocator: the locks around what follows, and their order
//!   cache.rs      one CPU's own free frames
//!   zeroed.rs     frames that idle CPUs have zeroed in advance
//!   buddy.rs      all other free blocks, up to 1 GiB
//!   bitmap.rs     a set of numbers with a fast minimum
//!   free.rs     which of a machine's memory there is to be given to it
//!   reserve.rs  frames for who is freeing others
//!   swap.rs     what a store of pages is; packed.rs, one that packs them
//!   ledger.rs   what is kept account of under a model checker
//! ```

mod bitmap;
mod breaking;
mod buddy;
mod cache;
pub mod extent;
mod frame;
mod frames;
mod free;
#[cfg(feature = "fuse")]
mod fuse;
mod ledger;
mod packed;
mod reclaim;
mod reserve;
mod swap;
pub mod team;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
pub mod tmpfs;
pub mod zeroed;

pub use buddy::{MAX_ORDER, MAX_ZONES};
pub use extent::Grow;
pub use frame::{Content, Frame, GuestFrame, GuestRun, Zeroed};
pub use frames::{Counts, Frames, FramesError};
pub use free::free_ranges;
pub use packed::Packed;
pub use reserve::{RESERVE, Reclaiming};
pub use swap::{Kept, NoSwap, NotKept, Store, StoreStats, Token};
pub use tmpfs::{MapRefused, Tmpfs, TmpfsStats};
