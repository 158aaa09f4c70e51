//! A piece of guest memory that is filled before the guest runs.

use alloc::vec::Vec;

/// Bytes of a fixed number, at first zero. What does not fit is an error.
#[derive(Debug)]
pub struct Blob(Vec<u8>);

impl Blob {
    /// So many bytes; `None` if there is no heap for them.
    pub fn new(bytes: usize) -> Option<Self> {
        let mut blob = Vec::new();
        blob.try_reserve_exact(bytes).ok()?;
        blob.resize(bytes, 0);
        Some(Self(blob))
    }

    /// Puts bytes at an offset; `None` if they do not fit.
    pub fn put(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        self.0.get_mut(at..at.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    }

    /// Sets the byte at `sum` so that the bytes `at..at + len` add up to 0.
    pub fn check(&mut self, at: usize, len: usize, sum: usize) -> Option<()> {
        let total = self.0.get(at..at.checked_add(len)?)?.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
        let byte = self.0.get_mut(sum)?;
        *byte = byte.wrapping_sub(total);
        Some(())
    }

    /// All of them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
