//! The fake's own heap: books, cells, caches, reverse maps. On a board that is hardware and needs none, so whoever refuses
//! hv-core heap for a test (`tests/properties`) leaves this alone.

use std::cell::Cell;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// What this thread asks for while this lives is the test's own.
#[derive(Debug)]
#[must_use = "it is the test's own only while this lives"]
pub struct Own(());

impl Own {
    /// From now on.
    pub fn begin() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(())
    }

    /// True if what this thread asks for now is the test's own. For an allocator: asks for nothing itself.
    #[must_use]
    pub fn now() -> bool {
        DEPTH.get() != 0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}
