//! Second-stage faults and invalidations: the one place where the host table and stage 2 meet.
//!
//! ```text
//!   fault      fast:    all of the following at once, if nothing has to be made or waited for (fast.rs); else
//!              resolve: seq = sample -> memslots(gfn) -> hva -> host table, populating        (resolve.rs)
//!              map:     enter a commit section -> revalidate(seq) -> primary -> install       (map.rs, lock.rs, level.rs)
//!   host side  begin:   lock, bracket, grace (sections that missed it), zap, flush, unlock    (zap.rs, flush.rs)
//!              change the host table
//!              end:     lock, seq up, count down, unlock -> grace -> free
//! ```
//!
//! Lock order, lowest first; a CPU takes locks in this order only, and the dev profile checks it (`sync::Rank`):
//!
//! 1. `Rank::Log`: starting, harvesting or stopping a VM's dirty log
//! 2. `Rank::Reclaim`: the machine's one reclaimer
//! 3. `Rank::Memslots`: replacing a VM's set of slots
//! 4. `Rank::Team`: one extent of an object that VMs share
//! 5. `Rank::Mappers`: the list of those VMs
//! 6. `Rank::Host`: structural changes of a VM's host table
//! 7. `Rank::Mmu`: the mmu lock of a VM
//! 8. `Rank::Derived`: the tables derived from a VM's stage 2
//! 9. walk guards, inside any of these; no ranked lock is taken and no grace period awaited inside a guard
//! 10. a store's locks, outside of walk guards
//! 11. the frame allocator's locks, innermost
//!
//! A grace period may be awaited under any of the locks, since who walks takes none. A fault takes none at all, with two
//! exceptions, both outside of its section: the first touch of a shared page takes its extent's, and where a table stands
//! in the way of a large leaf it takes the mmu lock.
//!
//! A flush happens under the mmu lock (R9): a second invalidator of the same page must not conclude from the empty
//! table that nothing is cached. It waits for CPUs to leave their guests, and a CPU in a guest holds no lock.

mod age;
pub mod cache;
pub mod census;
pub mod config;
pub mod derived;
pub mod dirty;
pub mod fast;
pub mod flush;
pub mod level;
pub mod lock;
mod map;
pub mod memory;
mod range;
pub mod ready;
pub mod resolve;
pub mod space;
pub mod zap;

pub use age::age;
pub use cache::GfnCache;
pub use config::{MemoryConfig, Window, pieces};
pub use dirty::{Harvest, LogError};
pub use memory::{GuestMemory, MemoryStats, Outcome};
pub use space::{MemoryError, Space};
