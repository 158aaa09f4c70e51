//! What a guest with a hashed table asks for all the time, for this board's instruction set: H_ENTER and H_REMOVE where nothing is
//! in the way.
//!
//! [`at_once`] is generic over the instruction set. What is instantiated here is compiled with this package, for speed (see the
//! profile in the workspace's manifest), and whoever needs it later uses this instance (`-Zshare-generics`, in `board.toml`). So
//! `powernv-loop`, which calls it, depends on this package.
#![no_std]
#![forbid(unsafe_code)]

use backend_ppc64::bare::Ppc64Bare;
use backend_ppc64::bare::machine::Bare;
use backend_ppc64::hash::HashStage2;
use backend_ppc64::hash::calls::{RealMode, at_once};
use hv_core::mmu::GuestMemory;

/// [`at_once`] of a board.
pub type AtOnce = fn(RealMode<'_>, &Bare, &GuestMemory<Ppc64Bare>, &HashStage2, &mut [u64; 32]) -> Option<usize>;

/// This board's. Named and not called: a call might make it part of this package's own function, and there would be no instance.
pub static AT_ONCE: AtOnce = at_once;
