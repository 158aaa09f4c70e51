//! A second stage that the guest fills: an unordered hashed table, as POWER's partitions with HPT have.
//!
//! ```text
//!   guest      enter: finds no entry -> puts one, ABSENT: "this gfn, this size"                  (guest.rs, like H_ENTER)
//!   hardware   an entry that is not VALID: fault, with the entry as the claim
//!   fault      resolve, revalidate, primary -> map: entry locked, still as claimed (R4)
//!                 -> reverse record -> frame and permission -> VALID                              (table.rs)
//!   zap        reverse map: the entries of these gfns -> ABSENT; flush; frames are free           (table.rs, rmap.rs)
//!   guest      remove: VALID off -> flush -> reverse record gone -> entry free                    (guest.rs, like H_REMOVE)
//! ```
//!
//! An entry is two words, of which hardware changes only R and C, in the second. Bit LOCK of the first is software's: who
//! has set it alone changes the rest. Lock order: entry, then reverse map. Whoever comes from the reverse map notes what it
//! found there, lets go, locks the entry, and looks whether the record is still the same. An entry's lock is held across a
//! flush (remove), so nobody waits for it inside a walk: a fault that finds it taken retries.
//!
//! - R4, R6: a fault that resolved for an entry which the guest has changed since finds other words there and publishes
//!   nothing. The host side is covered by the commit section, as everywhere.
//! - R9: `remove` unlinks the record only after its flush. In the other order an invalidator would find no record,
//!   conclude that nothing is cached, and free the frame.
//! - R14: R and C survive a zap: they stay in the second word while the entry is absent, so what hardware sets late, up to
//!   the flush, is not lost to the guest.
//! - R18, G7: record and VALID appear together under the entry's lock; removal goes by the recorded key.

mod entry;
mod guest;
mod rmap;
mod table;

pub use entry::{Claim, GROUP, ORDERS, Words, group_of, leaf, rc_bits};
pub use table::HashStage2;
