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
//! Four events meet the lockless walk. Each entry is read once into a local and decided from it alone (R1); what the
//! walker saw, it may use until its guard ends; what it then changes, it changes by CAS from the word it saw (R4).
//!
//! | event    | the entry                                  | a walker sees                                  | by whom, file |
//! |----------|--------------------------------------------|------------------------------------------------|---------------|
//! | fault    | hole -> leaf, hole -> table                | the hole, or the new entry with all below it   | anybody, `edit`, `run` |
//! | unmap    | leaf -> hole; then, of an empty table, each hole -> frozen, table -> hole | the leaf: its frame stays until the guard ends. Frozen: start over at the root | an invalidator, `edit`, `reclaim` |
//! | unmap    | of a table whose keys all go, table -> hole    | the leaf: its frame stays until the guard ends | an invalidator, `detach` |
//! | split    | leaf -> splitting -> table                 | the leaf: same frames. Splitting: retry        | a structural change, `split` |
//! | collapse | of the table, each leaf or hole -> frozen; then table -> leaf | a small leaf: its frame stays until the guard ends. Frozen: start over at the root | a structural change, `collapse` |
//! | swap     | of a host table, leaf -> busy -> swapped; swapped -> arriving -> leaf | busy, arriving: retry. Swapped: who wants the page brings it | `host/swap.rs` |
//!
//! A table page is unlinked when it is frozen whole, so that nothing can be published into it any more (`reclaim`,
//! `collapse`); or with all that it holds, in a bracket, so that nothing that is published into it is ever used (`detach`).
//! Either way it is freed after a flush (where hardware walks it) and a grace period (R2, R20).
//! Museum: A1, A9, A11a to A11c, C3, C4, C6, C7, C9, C11, X20.

mod collapse;
mod detach;
pub mod edit;
pub mod format;
mod kinds;
mod marks;
mod reclaim;
mod run;
mod split;
pub mod stage2;
pub mod walk;

pub use collapse::{FrozenTable, NotFrozen};
pub use detach::Held;
pub use edit::Radix;
pub use split::Split;
pub(crate) use stage2::Tables;
pub use stage2::{RadixStage2, Stage2Format};
