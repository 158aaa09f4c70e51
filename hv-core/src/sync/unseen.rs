//! Book-keeping that a model checker must not see.
//!
//! What watches a run must not take part in it: a lock of the checker's kind adds branches to explore, and orders the
//! accesses around it, which hides the very mistakes that are looked for.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A value behind a lock that no checker steps at. Not to be held across anything that one does.
#[derive(Debug, Default)]
pub(crate) struct Unseen<T>(Mutex<T>);

impl<T> Unseen<T> {
    /// Takes the lock; a panic elsewhere is the finding, not this.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
