//! A set of small numbers with fast "smallest member", in words that somebody else provides.
//!
//! Level 0 has one bit a member; each level above has one bit for each word below that is not zero. Finding, adding
//! and removing touch one word a level, three levels for 2^18 members.

use heapless::Vec;

const WORD_BITS: usize = 64;
/// 64^6 members are more than any machine's frames.
const MAX_LEVELS: usize = 6;

/// The set. It holds numbers below its `len`.
#[derive(Debug)]
pub(super) struct Bitmap {
    levels: Vec<&'static mut [u64], MAX_LEVELS>,
    len: usize,
    members: usize,
}

/// Words needed for a set of numbers below `len`.
pub(super) fn words(len: usize) -> usize {
    let mut total = 0_usize;
    let mut n = len;
    for _ in 0..MAX_LEVELS {
        n = n.div_ceil(WORD_BITS);
        total = total.saturating_add(n);
        if n <= 1 {
            break;
        }
    }
    total
}

impl Bitmap {
    /// An empty set of numbers below `len`, in the first [`words`] of `memory`; returns the rest of it. `None` if
    /// `memory` is too small.
    pub fn new(len: usize, memory: &'static mut [u64]) -> Option<(Self, &'static mut [u64])> {
        let mut levels = Vec::new();
        let mut rest = memory;
        let mut n = len;
        for _ in 0..MAX_LEVELS {
            n = n.div_ceil(WORD_BITS);
            let (level, after) = rest.split_at_mut_checked(n)?;
            level.fill(0);
            levels.push(level).ok()?;
            rest = after;
            if n <= 1 {
                return Some((Self { levels, len, members: 0 }, rest));
            }
        }
        None
    }

    /// True if it has no member.
    pub fn is_empty(&self) -> bool {
        self.members == 0
    }

    /// The smallest member.
    pub fn first(&self) -> Option<usize> {
        let mut at = 0_usize;
        for level in self.levels.iter().rev() {
            let word = *level.get(at)?;
            if word == 0 {
                return None;
            }
            at = at.checked_mul(WORD_BITS)?.checked_add(word.trailing_zeros() as usize)?;
        }
        Some(at)
    }

    /// Adds `n`; false if it was a member, or cannot be one.
    pub fn insert(&mut self, n: usize) -> bool {
        if n >= self.len {
            return false;
        }
        let mut at = n;
        for level in &mut self.levels {
            let (Some(word), bit) = (level.get_mut(at / WORD_BITS), 1 << (at % WORD_BITS)) else { return false };
            // Only on level 0: above it, a word that was zero has no bit in its parent.
            if *word & bit != 0 {
                return false;
            }
            let was = *word;
            *word = was | bit;
            if was != 0 {
                break;
            }
            at /= WORD_BITS;
        }
        self.members = self.members.saturating_add(1);
        true
    }

    /// Removes `n`; false if it was not a member.
    pub fn remove(&mut self, n: usize) -> bool {
        let mut at = n;
        for level in &mut self.levels {
            let (Some(word), bit) = (level.get_mut(at / WORD_BITS), 1 << (at % WORD_BITS)) else { return false };
            if *word & bit == 0 {
                return false;
            }
            *word &= !bit;
            if *word != 0 {
                break;
            }
            at /= WORD_BITS;
        }
        self.members = self.members.saturating_sub(1);
        true
    }

    /// True if any of `first..end` is a member.
    pub fn any_of(&self, first: usize, end: usize) -> bool {
        // A word at a time: the answer is wanted of blocks with a quarter of a million parts.
        let mut n = first;
        while n < end {
            let word = self.levels.first().and_then(|l| l.get(n / WORD_BITS)).copied().unwrap_or(0);
            let here = WORD_BITS.saturating_sub(n % WORD_BITS).min(end.saturating_sub(n));
            let mask = u64::MAX >> WORD_BITS.saturating_sub(here);
            if word >> (n % WORD_BITS) & mask != 0 {
                return true;
            }
            n = n.saturating_add(here);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{Bitmap, words};
    use std::collections::BTreeSet;

    #[test]
    fn it_is_a_set_with_a_minimum() {
        for len in [1_usize, 63, 64, 65, 4096, 4097, 70_000] {
            let memory = vec![!0; words(len)].leak();
            let (mut map, rest) = Bitmap::new(len, memory).unwrap();
            assert!(rest.is_empty());
            let mut model = BTreeSet::new();
            let mut x = 12345_u64;
            for _ in 0..3000 {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let n = (x >> 33) as usize % (len + 2);
                if x & 1 << 20 == 0 {
                    assert_eq!(map.insert(n), n < len && model.insert(n));
                } else {
                    assert_eq!(map.remove(n), model.remove(&n));
                }
                assert_eq!(map.first(), model.first().copied());
                assert_eq!(map.is_empty(), model.is_empty());
                let (a, b) = (n.min(len), (x >> 7) as usize % (len + 1));
                assert_eq!(map.any_of(a, b), a < b && model.range(a..b).next().is_some());
            }
        }
    }

    #[test]
    fn too_little_memory_is_refused() {
        assert!(Bitmap::new(1000, vec![0; words(1000) - 1].leak()).is_none());
    }
}
