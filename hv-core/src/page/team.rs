//! Teams: a block of frames whose pages come to life one by one, and the question whether it may be mapped with one leaf.
//!
//! An extent's usage is one word, which swapping uses for a purpose of its own once it has the extent. Decoding is total:
//! a word that nobody writes says nothing, and nothing is mapped large on the strength of it.
//!
//! What the word says is about the extent, not about any mapping of it (R12). It decides whether a *host* leaf may be made
//! large, under the extent's lock. For stage 2 it decides nothing: there only the host leaf counts, read in the commit
//! section ([`crate::mmu::lock::Fresh::primary`]). Exhibits A8, C1, C2.

use crate::addr::{Hvn, HvnRange};
use crate::host::{HUGE, NotHuge};

/// What an extent is just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Nothing has been touched.
    Empty,
    /// A team; so many of its pages have come to life, fewer than all.
    Building(u64),
    /// A team all of whose pages live. Only such a one is ever mapped large.
    Complete {
        /// Host leaves that map it whole.
        huge_mappings: u64,
    },
    /// Swapping has it, under this entry.
    Swap(u64),
    /// Pages of no team: the team was broken, or there never was a block for one.
    Broken,
}

const TAG_BITS: u32 = 3;
const TAG: u64 = (1 << TAG_BITS) - 1;
const EMPTY: u64 = 0;
const BUILDING: u64 = 1;
const COMPLETE: u64 = 2;
const SWAP: u64 = 3;
const BROKEN: u64 = 4;

impl Usage {
    /// The word for it. Counts and entries beyond 61 bits do not exist.
    #[must_use]
    pub const fn encode(self) -> u64 {
        match self {
            Self::Empty => EMPTY,
            Self::Building(n) => n << TAG_BITS | BUILDING,
            Self::Complete { huge_mappings } => huge_mappings << TAG_BITS | COMPLETE,
            Self::Swap(entry) => entry << TAG_BITS | SWAP,
            Self::Broken => BROKEN,
        }
    }

    /// What a word says. One that nobody writes is taken for the state from which nothing follows.
    #[must_use]
    pub const fn decode(word: u64) -> Self {
        let value = word >> TAG_BITS;
        match word & TAG {
            EMPTY if value == 0 => Self::Empty,
            BUILDING if value < HUGE.pages() => Self::Building(value),
            COMPLETE => Self::Complete { huge_mappings: value },
            SWAP => Self::Swap(value),
            _ => Self::Broken,
        }
    }
}

/// What stands in the host table where the large leaf would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing, or a table of small entries: to be mapped, or to be collapsed.
    Small,
    /// A large leaf.
    Huge,
}

/// All that the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// A page of the host space.
    pub page: Hvn,
    /// Its place in the object.
    pub index: u64,
    /// The extent's usage, read under its lock.
    pub usage: Usage,
    /// The block as far as the region is concerned.
    pub region: Result<HvnRange, NotHuge>,
    /// What is there now.
    pub standing: Standing,
}

/// May the team be mapped with one host leaf? The whole block on success.
pub fn may_map_huge(q: &Question) -> Result<HvnRange, NotHuge> {
    let block = q.region?;
    // The block's pages and the team's pages are the same ones only if both count from the same boundary.
    if (q.page.0 ^ q.index) & (HUGE.pages() - 1) != 0 {
        return Err(NotHuge::Askew);
    }
    if q.standing == Standing::Huge {
        return Err(NotHuge::AlreadyHuge);
    }
    match q.usage {
        Usage::Complete { .. } => Ok(block),
        Usage::Building(_) => Err(NotHuge::Incomplete),
        Usage::Swap(_) => Err(NotHuge::Swapped),
        Usage::Empty | Usage::Broken => Err(NotHuge::NoTeam),
    }
}

const WORD: u64 = u64::BITS as u64;
const WORDS: usize = if HUGE.pages() > WORD { (HUGE.pages() / WORD) as usize } else { 1 };

/// A set of pages of one extent, by their place in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits([u64; WORDS]);

impl Bits {
    /// The pages `from..to`, cut off at the extent's end.
    #[must_use]
    pub fn range(from: u64, to: u64) -> Self {
        let mut all = Self::default();
        (from..to.min(HUGE.pages())).for_each(|n| all.set(n));
        all
    }

    /// Adds one.
    pub fn set(&mut self, n: u64) {
        if let Some(word) = usize::try_from(n / WORD).ok().and_then(|w| self.0.get_mut(w)) {
            *word |= 1 << (n % WORD);
        }
    }

    /// Takes one out.
    pub fn clear(&mut self, n: u64) {
        if let Some(word) = usize::try_from(n / WORD).ok().and_then(|w| self.0.get_mut(w)) {
            *word &= !(1 << (n % WORD));
        }
    }

    /// True if `n` is in it.
    #[must_use]
    pub fn has(&self, n: u64) -> bool {
        usize::try_from(n / WORD).ok().and_then(|w| self.0.get(w)).is_some_and(|word| word >> (n % WORD) & 1 == 1)
    }

    /// How many are in it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Its members, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        (0..HUGE.pages()).filter(move |n| self.has(*n))
    }

    /// The smallest range that has all members; `None` if there is none.
    #[must_use]
    pub fn hull(&self) -> Option<(u64, u64)> {
        let (first, last) = (self.iter().next()?, self.iter().last()?);
        Some((first, last.saturating_add(1)))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Bits, HUGE, Question, Standing, Usage, may_map_huge};
    use crate::addr::{Hvn, HvnRange};
    use crate::host::NotHuge;

    fn question() -> Question {
        let region = Ok(HvnRange::block(Hvn(1024), HUGE).unwrap());
        let usage = Usage::Complete { huge_mappings: 0 };
        Question { page: Hvn(1030), index: 512 + 6, usage, region, standing: Standing::Small }
    }

    #[test]
    fn r12_each_refusal_has_its_name() {
        let q = question();
        assert_eq!(may_map_huge(&q), Ok(HvnRange::block(Hvn(1024), HUGE).unwrap()));
        let ask = |q: Question| may_map_huge(&q).unwrap_err();
        assert_eq!(ask(Question { index: 512 + 7, ..q }), NotHuge::Askew);
        assert_eq!(ask(Question { usage: Usage::Broken, ..q }), NotHuge::NoTeam);
        assert_eq!(ask(Question { usage: Usage::Empty, ..q }), NotHuge::NoTeam);
        assert_eq!(ask(Question { usage: Usage::Building(511), ..q }), NotHuge::Incomplete);
        assert_eq!(ask(Question { usage: Usage::Swap(7), ..q }), NotHuge::Swapped);
        assert_eq!(ask(Question { standing: Standing::Huge, ..q }), NotHuge::AlreadyHuge);
        assert_eq!(ask(Question { region: Err(NotHuge::Policy), ..q }), NotHuge::Policy);
        assert_eq!(ask(Question { region: Err(NotHuge::Region), ..q }), NotHuge::Region);
    }

    #[test]
    fn r13_a_swap_entry_is_never_taken_for_a_count() {
        for entry in [0, 1, 511, 512, 1 << 40] {
            assert_eq!(Usage::decode(Usage::Swap(entry).encode()), Usage::Swap(entry));
        }
        assert_eq!(Usage::decode(Usage::Building(511).encode()), Usage::Building(511));
        let many = Usage::Complete { huge_mappings: 3 };
        assert_eq!(Usage::decode(many.encode()), many);
    }

    proptest! {
        #[test]
        fn r1_decoding_is_total_and_what_it_knows_is_what_is_written(word in any::<u64>()) {
            let usage = Usage::decode(word);
            assert!(usage == Usage::Broken || usage.encode() == word);
        }
    }

    #[test]
    fn bits_are_a_set() {
        let mut bits = Bits::range(60, 70);
        bits.clear(64);
        assert!(bits.has(63) && !bits.has(64) && !bits.has(511));
        assert_eq!((bits.count(), bits.hull()), (9, Some((60, 70))));
        assert_eq!(Bits::range(500, 9999).count(), 12);
        assert_eq!(Bits::default().hull(), None);
    }
}
