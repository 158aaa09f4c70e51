//! What whoever entered the image left in memory for it.
#![expect(unsafe_code, reason = "memory that firmware hands over")]

/// The flattened tree at real address `at`.
///
/// # Safety
/// A flattened tree is there, which nobody writes from now on.
#[must_use]
pub unsafe fn tree(at: u64) -> &'static [u8] {
    let start = core::ptr::with_exposed_provenance::<u8>(at as usize);
    // SAFETY: as promised; its header says how long it is.
    unsafe {
        let size = u32::from_be_bytes(start.add(4).cast::<[u8; 4]>().read_unaligned());
        core::slice::from_raw_parts(start, size as usize)
    }
}
