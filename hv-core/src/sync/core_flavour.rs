//! What boots: the processor's own atomics, and a test-and-set lock.
//!
//! Not a fair one: a hypervisor's CPUs may themselves be virtual, and a lock that must be passed to the next in line
//! waits for that one to be scheduled below us. Eight CPUs on two host cores came to a standstill with ticket locks.

pub use core::hint::spin_loop;
use core::ops::{Deref, DerefMut};
pub use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// A spinning mutual exclusion lock. Never held across a wait for another CPU's progress outside the lock order.
#[derive(Debug)]
pub struct Mutex<T: ?Sized>(spin::mutex::SpinMutex<T>);

/// Proof that the lock is held.
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized>(spin::mutex::SpinMutexGuard<'a, T>);

impl<T> Mutex<T> {
    /// An unlocked lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(spin::mutex::SpinMutex::new(value))
    }

    /// The value, when nobody can hold the lock any more.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(self.0.lock())
    }

    /// Takes the lock if it is free right now.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().map(MutexGuard)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
