//! What boots: the processor's own atomics, and a ticket lock so that no CPU starves.

pub use core::hint::spin_loop;
use core::ops::{Deref, DerefMut};
pub use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// A spinning mutual exclusion lock, fair. Never held across a wait for another CPU's progress outside the lock order.
#[derive(Debug)]
pub struct Mutex<T: ?Sized>(spin::mutex::TicketMutex<T>);

/// Proof that the lock is held.
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized>(spin::mutex::TicketMutexGuard<'a, T>);

impl<T> Mutex<T> {
    /// An unlocked lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(spin::mutex::TicketMutex::new(value))
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
