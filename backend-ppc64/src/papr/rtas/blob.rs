//! The instructions that the loader puts into guest memory as run-time firmware's entry point.

/// Bytes of [`rtas_blob`].
pub const RTAS_BLOB_SIZE: usize = 20;

/// What a guest branches to, with the block's address in r3: hands it on in r4, makes the private hypervisor call, and
/// returns. Firmware runs big-endian with translation off, so the instructions are big-endian words.
#[must_use]
pub const fn rtas_blob() -> [u8; RTAS_BLOB_SIZE] {
    const WORDS: [u32; 5] = [
        0x7c64_1b78, // mr   r4, r3
        0x3860_0000, // li   r3, 0
        0x6063_f000, // ori  r3, r3, 0xf000
        0x4400_0022, // sc   1
        0x4e80_0020, // blr
    ];
    let mut blob = [0; RTAS_BLOB_SIZE];
    let mut n = 0;
    while n < WORDS.len() {
        let bytes = WORDS[n].to_be_bytes();
        let mut b = 0;
        while b < 4 {
            blob[4 * n + b] = bytes[b];
            b += 1;
        }
        n += 1;
    }
    blob
}

#[cfg(test)]
mod tests {
    use super::rtas_blob;
    use crate::papr::hcall::Hcall;

    /// The immediate of the third instruction is the call that run-time firmware listens to.
    #[test]
    fn the_blob_makes_the_call_that_is_there() {
        let blob = rtas_blob();
        assert_eq!(blob.len() % 4, 0);
        assert_eq!(u64::from(u16::from_be_bytes([blob[10], blob[11]])), Hcall::Rtas as u64);
    }
}
