//! The nested-HV interface (version 1) as it is offered to guests: what `nested` uses, from the other side.
//!
//! Three levels: this hypervisor (L0), its guest (L1), which is a hypervisor too, and a guest of that (L2). L1 keeps a partition
//! table and partition-scoped trees in its own memory and names an L2 by its number there. Hardware runs L2 on a tree derived
//! from L1's and from L1's own second stage ([`hv_core::mmu::derived`]).
//!
//! ```text
//!   H_SET_PARTITION_TABLE   where L1's partition table is                                   calls.rs, children.rs
//!   H_ENTER_NESTED          blocks read, checked, fitted -> L2 runs -> blocks written back   block.rs, fit.rs, run.rs
//!   L2 faults               L1's tree is walked -> derived entry, L1's fault, or L2 leaves   walk.rs, fault.rs
//!   H_COPY_TOFROM_GUEST     both of L2's trees are walked -> bytes are copied                copy.rs
//!   H_TLB_INVALIDATE        entries derived from what L1 has changed go                      tlbie.rs, children.rs
//! ```
//!
//! The interface has no document but its two implementations (Linux `book3s_hv_nested.c`, QEMU `spapr_nested.c`). Where they
//! differ: an unknown version of the block is a wrong parameter; the block may be of version 1 or 2; both byte orders are
//! taken, by the caller's state. What is not offered: a timebase of L2's own, transactional memory, watchpoints.
//!
//! Everything in L1's memory is hostile: each word is read once and fitted to what hardware may be given (R26). Whatever L1
//! does, an L2 gets no more than L1 has: an entry derived from both is never larger than either.

pub mod block;
pub mod children;
pub mod copy;
pub mod counts;
pub mod fault;
pub mod fit;
mod guest;
pub mod seat;
pub mod stage2;
pub mod tlbie;
pub mod walk;

#[cfg(target_arch = "powerpc64")]
mod calls;
#[cfg(target_arch = "powerpc64")]
pub mod run;

/// What the calls answer in r3 (PAPR's values).
pub mod status {
    /// Done.
    pub const SUCCESS: i64 = 0;
    /// No partition table has been set.
    pub const NOT_AVAILABLE: i64 = 3;
    /// There is no such call.
    pub const FUNCTION: i64 = -2;
    /// A parameter, or what it points at, is wrong.
    pub const PARAMETER: i64 = -4;
    /// What is to be copied is not there, or not for this access.
    pub const NOT_FOUND: i64 = -7;
    /// L2 would be in the middle of a transaction.
    pub const BAD_MODE: i64 = -5;
    /// No memory for another L2.
    pub const NO_MEM: i64 = -9;
    /// L2's state could not be written back.
    pub const AUTHORITY: i64 = -10;
}
