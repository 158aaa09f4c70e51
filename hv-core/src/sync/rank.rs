//! Locks that know their place in the lock order, which `mmu/mod.rs` states.
//!
//! The check is per CPU: a [`Cpu`] carries the set of ranks it holds, and taking a lock whose rank is not above all of
//! them is a bug that the dev profile stops at. The release profile keeps no account.

use core::ops::{Deref, DerefMut};

use super::{Mutex, MutexGuard};
use crate::epoch::Cpu;

/// A place in the lock order; a CPU takes locks in rising order only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// Starting, harvesting or stopping a VM's dirty log.
    Log = 0,
    /// Freeing frames of whichever VM or object, for want of free ones.
    Reclaim = 1,
    /// Replacing a VM's set of memslots.
    Memslots = 2,
    /// One extent of a shared object.
    Team = 3,
    /// Who maps a shared object.
    Mappers = 4,
    /// Structural changes of a host table.
    Host = 5,
    /// The mmu lock of one VM.
    Mmu = 6,
    /// The tables derived from that VM's stage 2.
    Derived = 7,
}

/// A lock with a rank.
#[derive(Debug)]
pub struct Ranked<T> {
    rank: Rank,
    lock: Mutex<T>,
}

/// Proof that a ranked lock is held, by this CPU.
#[derive(Debug)]
pub struct RankedGuard<'a, T> {
    guard: MutexGuard<'a, T>,
    cpu: &'a Cpu,
    rank: Rank,
}

impl<T> Ranked<T> {
    /// An unlocked lock of this rank.
    pub fn new(rank: Rank, value: T) -> Self {
        Self { rank, lock: Mutex::new(value) }
    }

    /// Waits for the lock. Must not be called inside a walk guard, nor with a lock of the same or a higher rank held.
    pub fn lock<'a>(&'a self, cpu: &'a Cpu) -> RankedGuard<'a, T> {
        cpu.rank_up(self.rank);
        RankedGuard { guard: self.lock.lock(), cpu, rank: self.rank }
    }
}

impl<T> Drop for RankedGuard<'_, T> {
    fn drop(&mut self) {
        self.cpu.rank_down(self.rank);
    }
}

impl<T> Deref for RankedGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for RankedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
