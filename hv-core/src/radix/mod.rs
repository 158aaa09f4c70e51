//! One walker for the host table and for every radix stage 2.
//!
//! `format` says what an entry means, `walk` reads without locks, `edit` changes by compare-and-swap. The format decides
//! bits and byte order, the machine lends the cells, and this module decides everything else.
//!
//! ```text
//!   key (a page number)   | index at top level | ... | index at level 1 | index at level 0 |
//!   root --entry--> table --entry--> table --entry--> leaf
//!             a leaf above level 0 covers all keys that its remaining, unused index bits can name
//! ```
//!
//! Who changes what, and why walkers survive it:
//! - fault: a hole becomes a leaf or a table, by CAS from the very word that was decoded (R4);
//! - unmap: a leaf becomes a hole, by CAS;
//! - a table page goes away: every hole in it is first frozen by CAS, so that nobody can publish into it any more; only
//!   a table frozen whole is unlinked, and it is freed after a flush and a grace period (R2, R20).

pub mod edit;
pub mod format;
mod reclaim;
pub mod stage2;
pub mod walk;

pub use edit::Radix;
pub use stage2::{RadixStage2, Stage2Format};
