//! Physical memory for tests: blocks of bytes, and nothing between them.

use super::physical::Physical;

/// The memory.
#[derive(Clone, Debug, Default)]
pub struct Fake(Vec<(u64, Vec<u8>)>);

impl Fake {
    /// Puts bytes at an address; what was there before at that very address goes.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.0.retain(|(start, _)| *start != at);
        self.0.push((at, bytes.to_vec()));
    }

    /// Bytes that can be changed.
    pub fn block(&mut self, at: u64) -> &mut Vec<u8> {
        &mut self.0.iter_mut().find(|(start, _)| *start == at).unwrap().1
    }

    /// Where the blocks are.
    pub fn starts(&self) -> Vec<u64> {
        self.0.iter().map(|(start, _)| *start).collect()
    }
}

impl Physical for Fake {
    fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        self.0.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(at.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(len)?)
        })
    }
}

/// Concatenated little-endian numbers of four bytes.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The same of eight.
pub fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_le_bytes()).collect()
}

/// Loaders' and firmware's tables, spoiled in every way that changes one byte, or ends a block early: `look` must return.
pub fn spoil(of: &Fake, mut look: impl FnMut(&Fake)) {
    for start in of.starts() {
        let length = of.clone().block(start).len();
        for at in 0..length {
            for value in [0, 1, 0x7f, 0xff] {
                let mut spoiled = of.clone();
                spoiled.block(start)[at] = value;
                look(&spoiled);
            }
            let mut cut = of.clone();
            cut.block(start).truncate(at);
            look(&cut);
        }
    }
}
