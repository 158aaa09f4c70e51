//! The words that firmware hands to Trivet (`-append`, `/chosen/bootargs`), separated by blanks, and what the board makes of
//! them. A word that nobody knows means nothing.

use alloc::vec::Vec;
use core::ops::Range;

use hv_core::flat::Tree;

/// How much free memory is to be used, in MiB: `memory=256M`.
const MEMORY: &[u8] = b"memory=";

/// All of them.
pub struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// Those in a device tree; none if there is no such tree.
    #[must_use]
    pub fn of(tree: &'a [u8]) -> Self {
        let chosen = Tree::new(tree).and_then(|tree| tree.root()).and_then(|root| root.child("chosen"));
        Self(chosen.and_then(|chosen| chosen.property("bootargs")).unwrap_or_default())
    }

    fn each(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|byte| byte.is_ascii_whitespace() || *byte == 0)
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn have(&self, word: &[u8]) -> bool {
        self.each().any(|found| found == word)
    }

    /// The most free memory that is to be used, in bytes; `None`: all of it.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        let number = self.each().find_map(|word| word.strip_prefix(MEMORY)?.strip_suffix(b"M"))?;
        let mib: u64 = core::str::from_utf8(number).ok()?.parse().ok()?;
        mib.checked_mul(1 << 20)
    }
}

/// The first so many bytes of these ranges, whose order stays.
#[must_use]
pub fn first(mut ranges: Vec<Range<u64>>, most: u64) -> Vec<Range<u64>> {
    let mut left = most;
    for range in &mut ranges {
        let size = range.end.saturating_sub(range.start).min(left);
        range.end = range.start + size;
        left -= size;
    }
    ranges.retain(|range| !range.is_empty());
    ranges
}

#[cfg(test)]
mod tests {
    use super::{Words, first};

    /// A number that is none, or that no address can be, is no limit: a machine with all of its memory says more than none.
    #[test]
    fn a_limit_is_a_number_of_mebibytes() {
        let memory = |words: &'static str| Words(words.as_bytes()).memory();
        assert_eq!(memory("hashed memory=256M\0"), Some(256 << 20));
        for none in ["", "memory=256", "memory=M", "memory=-1M", "memory=18446744073709551615M", "xmemory=1M"] {
            assert_eq!(memory(none), None, "{none:?}");
        }
        let words = Words(b"hashed memory=1M\0");
        assert!(words.have(b"hashed") && !words.have(b"hash") && !Words::of(&[0; 64]).have(b"hashed"));
    }

    #[test]
    fn what_is_beyond_the_limit_is_left_out() {
        let ranges = vec![0x1_0000..0x5_0000, 0x8_0000..0x9_0000, 0x10_0000..0x20_0000];
        assert_eq!(first(ranges.clone(), 0x4_8000), [0x1_0000..0x5_0000, 0x8_0000..0x8_8000]);
        assert_eq!(first(ranges.clone(), 0x4_0000), &ranges[..1]);
        assert_eq!(first(ranges.clone(), 0), []);
        assert_eq!(first(ranges.clone(), u64::MAX), ranges);
    }
}
