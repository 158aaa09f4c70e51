//! What a leaf allows and what hardware noted in it, weakened while hardware uses it.
//!
//! Each change is a compare-and-swap from the word that was decided on: a bit that hardware sets in between makes it fail, and
//! the leaf is looked at again (R4, exhibit E2). What hardware may still do with what it had cached is for a flush to end.

use super::Radix;
use super::edit::Step;
use crate::addr::Order;
use crate::epoch::WalkGuard;
use crate::isa::RadixFormat;
use crate::machine::Machine;
use crate::radix::format::{Leaf, Prot, Pte, Rc};

impl<F: RadixFormat> Radix<F> {
    /// Takes write permission, and the marks `along` with it, from every leaf that covers a key of `from..to`; `noted` is told
    /// of each that had it.
    pub fn protect<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        from: u64,
        to: u64,
        along: Rc,
        noted: impl FnMut(u64, Order),
    ) {
        let weaker = |leaf: Leaf| {
            let writable = leaf.prot.contains(Prot::WRITE);
            writable.then(|| Leaf { prot: leaf.prot.difference(Prot::WRITE), rc: leaf.rc.difference(along), ..leaf })
        };
        self.weaken(m, g, from, to, weaker, noted);
    }

    /// Clears the mark `which` of every leaf that covers a key of `from..to`; `noted` is told of each that had it.
    pub fn unmark<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        from: u64,
        to: u64,
        which: Rc,
        noted: impl FnMut(u64, Order),
    ) {
        let weaker = |leaf: Leaf| leaf.rc.contains(which).then(|| Leaf { rc: leaf.rc.difference(which), ..leaf });
        self.weaken(m, g, from, to, weaker, noted);
    }

    fn weaken<M: Machine>(
        &self,
        m: &M,
        g: &WalkGuard<'_>,
        from: u64,
        to: u64,
        weaker: impl Fn(Leaf) -> Option<Leaf>,
        mut noted: impl FnMut(u64, Order),
    ) {
        self.each_leaf(m, g, from, to, |seen, key, leaf| {
            let Some(new) = weaker(leaf) else { return Step::Next };
            if !seen.swap::<F>(Pte::Leaf(new)) {
                return Step::Again;
            }
            noted(key, seen.order);
            Step::Next
        });
    }
}
