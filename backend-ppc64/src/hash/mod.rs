//! Hashed page tables: second stage of a guest that fills it itself, by hypervisor calls (LoPAPR 14.5.4).
//!
//! ```text
//!   guest      H_ENTER: an entry, absent; valid at once if its page is there                     calls/enter.rs
//!   hardware   an entry that is not valid, or does not allow the access: exit
//!   exit       the entry for the address: the guest's own mistake, or a claim                    fault.rs
//!   fault      resolve, revalidate, primary -> map: entry locked, still as claimed (R4)
//!                 -> reverse map -> r -> VALID                                                   stage2.rs
//!   zap        reverse map: the entries of these frames -> absent; flush; frames are free        stage2.rs
//!   guest      H_REMOVE: VALID off -> flush -> R and C read (R14) -> reverse map -> free         edit.rs
//! ```
//!
//! - `words`: what an entry's bits mean; `place`: where it may stand. Pure.
//! - `table`, `entry`, `claim`: entries in memory, their lock bits, what they say; `rmap`: which of them translate a
//!   frame.
//! - `stage2`: hv-core's half; `calls` and `edit`: the guest's; `fault`: between the two; `resize`: another table;
//!   `first_run`: before them all.
//!
//! **Two contexts** carry a call out ([`calls::Context`]): real mode, where nothing may be waited for and no frame
//! taken, and virtual mode. A call that real mode cannot finish is deferred, having changed nothing (R21), and is made
//! anew in virtual mode, by the same code; no guest sees that.
//!
//! **The invariants.** Valid means linked (G7), and record and VALID appear under the entry's lock; removal goes by the
//! recorded frame (R18). Nothing is unlinked by its remover before it is flushed: a zap that finds no record concludes
//! that nothing is cached (R9). R and C are read after the flush, and stay in an absent entry (R14). Whoever waits with
//! an entry's lock waits for hardware only (R21).

pub mod calls;
mod claim;
pub mod edit;
pub mod entry;
pub mod fault;
pub mod first_run;
pub mod place;
pub mod resize;
pub mod rmap;
pub mod rmo;
mod stage2;
pub mod table;
#[cfg(test)]
mod tests;
mod vrma;
pub mod words;

pub use claim::{Claim, Hashed, MayBeHashed, Words};
pub use stage2::HashStage2;
pub use table::{Config, Gone, Processor};
pub use words::Layout;
