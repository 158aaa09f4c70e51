//! Physical memory as firmware and loaders left it, for those who read their tables.

/// Memory by physical address. What is asked for comes from tables that nobody has checked.
pub trait Physical {
    /// `len` bytes at `at`; `None` if there can be none.
    fn bytes(&self, at: u64, len: usize) -> Option<&[u8]>;

    /// The bytes at `at` as a little-endian number of 32 bits.
    fn word(&self, at: u64) -> Option<u32> {
        number(self.bytes(at, 4)?, 0).map(|word| word as u32)
    }
}

/// The number at `at` in a table, of as many bytes as `N`; `None` if the table ends before.
fn bytes<const N: usize>(table: &[u8], at: usize) -> Option<[u8; N]> {
    table.get(at..)?.first_chunk().copied()
}

/// Four bytes at `at`, little-endian.
#[must_use]
pub fn number(table: &[u8], at: usize) -> Option<u64> {
    bytes(table, at).map(|bytes| u32::from_le_bytes(bytes).into())
}

/// Eight.
#[must_use]
pub fn long(table: &[u8], at: usize) -> Option<u64> {
    bytes(table, at).map(u64::from_le_bytes)
}
