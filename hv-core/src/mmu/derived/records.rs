//! The reverse map: which entries of which children were derived from a frame of the parent (R18).
//!
//! Each record is found from either of its two ends: by the parent's, when the parent takes something away, and by the
//! child's, when the child's own guest does. Both ways are lists by blocks of 2 MiB, and no leaf is larger than that, so a
//! record lies in one list of each. How many there are a guest decides; so a record that finds no memory is refused, and
//! lists that run empty give theirs back.

use alloc::vec::Vec;

use crate::addr::{Gfn, GfnRange, Order};
use crate::host::HUGE;
use crate::isa::VmTag;

/// A leaf of a child, and what it was derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose leaf it is.
    pub child: VmTag,
    /// The child's first frame, aligned to the size.
    pub at: Gfn,
    /// The parent's, likewise.
    pub from: Gfn,
    /// The size, [`HUGE`] at most.
    pub order: Order,
}

/// No heap for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Which end of a record is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Parent,
    Child,
}

/// All records of one parent.
#[derive(Debug)]
pub(super) struct Records {
    by_parent: Lists,
    by_child: Lists,
}

#[derive(Debug)]
struct Lists {
    end: End,
    /// Never empty. What lies further apart than there are lists shares one.
    lists: Vec<Vec<Record>>,
}

impl Record {
    /// The frames at one of its ends; `None` for none that there can be.
    fn frames(&self, end: End) -> Option<GfnRange> {
        let first = match end {
            End::Parent => self.from,
            End::Child => self.at,
        };
        GfnRange::new(first, self.order.pages())
    }

    fn touches(&self, end: End, r: &GfnRange) -> bool {
        self.frames(end).is_some_and(|frames| frames.intersect(r).is_some())
    }
}

impl Records {
    /// None yet, of a parent with so many pages.
    pub fn new(pages: u64) -> Option<Self> {
        let lists = usize::try_from(pages >> HUGE.get()).ok()?.saturating_add(1);
        Some(Self { by_parent: Lists::new(End::Parent, lists)?, by_child: Lists::new(End::Child, lists)? })
    }

    /// Makes the leaf that `record` is about, by `publish`, and records it; neither without the other.
    pub fn with(&mut self, record: Record, publish: impl FnOnce() -> Result<(), NoMemory>) -> Result<(), NoMemory> {
        let lists = [self.by_parent.room(&record)?, self.by_child.room(&record)?];
        publish()?;
        // There is room in both.
        lists.into_iter().for_each(|list| list.push(record));
        Ok(())
    }

    /// Shows the records of `child` that have any of `r` at this end.
    pub fn each(&self, end: End, r: &GfnRange, child: VmTag, mut f: impl FnMut(&Record)) {
        let lists = match end {
            End::Parent => &self.by_parent,
            End::Child => &self.by_child,
        };
        for n in lists.of(r) {
            let list = lists.lists.get(n).map(Vec::as_slice).unwrap_or_default();
            list.iter().filter(|record| record.child == child && record.touches(end, r)).for_each(&mut f);
        }
    }

    /// Removes the records of `child` that have any of `r` at this end, and gives each to `f`.
    pub fn take(&mut self, end: End, r: &GfnRange, child: VmTag, mut f: impl FnMut(&Record)) {
        let (near, far) = match end {
            End::Parent => (&mut self.by_parent, &mut self.by_child),
            End::Child => (&mut self.by_child, &mut self.by_parent),
        };
        for n in near.of(r) {
            let Some(list) = near.lists.get_mut(n) else { continue };
            list.retain(|record| {
                let kept = record.child != child || !record.touches(end, r);
                if !kept {
                    far.remove(record);
                    f(record);
                }
                kept
            });
            tidy(list);
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Record> {
        self.by_parent.lists.iter().flatten()
    }
}

impl Lists {
    fn new(end: End, count: usize) -> Option<Self> {
        let mut lists = Vec::new();
        lists.try_reserve_exact(count).ok()?;
        lists.resize_with(count, Vec::new);
        Some(Self { end, lists })
    }

    /// The list of a block, by its number.
    fn number(&self, block: u64) -> usize {
        block.checked_rem(self.lists.len() as u64).unwrap_or(0) as usize
    }

    /// Every list that may have a record with any of `r`, once.
    fn of(&self, r: &GfnRange) -> impl Iterator<Item = usize> + use<> {
        let first = r.start().0 >> HUGE.get();
        let blocks = (r.end().0.saturating_sub(1) >> HUGE.get()).saturating_sub(first).saturating_add(1);
        let (lists, first) = (self.lists.len(), self.number(first));
        let count = usize::try_from(blocks).unwrap_or(lists).min(lists);
        (0..count).map(move |n| first.saturating_add(n).checked_rem(lists).unwrap_or(0))
    }

    fn list(&mut self, record: &Record) -> Option<&mut Vec<Record>> {
        let n = self.number(record.frames(self.end)?.start().0 >> HUGE.get());
        self.lists.get_mut(n)
    }

    /// The list for a record, with room for it.
    fn room(&mut self, record: &Record) -> Result<&mut Vec<Record>, NoMemory> {
        let list = self.list(record).ok_or(NoMemory)?;
        list.try_reserve(1).map_err(|_| NoMemory)?;
        Ok(list)
    }

    fn remove(&mut self, record: &Record) {
        if let Some(list) = self.list(record) {
            let at = list.iter().position(|other| other == record);
            debug_assert!(at.is_some(), "G7: {record:?} is known at one of its ends only");
            if let Some(at) = at {
                list.swap_remove(at);
            }
            tidy(list);
        }
    }
}

/// Gives the memory of a list back that has no more records.
fn tidy(list: &mut Vec<Record>) {
    if list.is_empty() {
        *list = Vec::new();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use core::num::NonZeroU16;

    use proptest::prelude::{Strategy, any, proptest};
    use proptest::{collection, prop_assert, prop_assert_eq};

    use super::{End, NoMemory, Record, Records};
    use crate::addr::{Gfn, GfnRange, Order};
    use crate::host::HUGE;
    use crate::isa::VmTag;

    const PAGES: u64 = 8 << 9;

    fn child(n: u16) -> VmTag {
        VmTag(NonZeroU16::new(n + 1).unwrap())
    }

    /// A record anywhere: children's addresses are as a guest likes.
    fn record() -> impl Strategy<Value = Record> {
        (0..2_u16, any::<u64>(), 0..PAGES, any::<bool>()).prop_map(|(n, at, from, huge)| {
            let order = if huge { HUGE } else { Order::PAGE };
            let (at, from) = (Gfn(at >> 12).align_down(order), Gfn(from).align_down(order));
            Record { child: child(n), at, from, order }
        })
    }

    fn same(mut a: Vec<Record>, mut b: Vec<Record>) -> bool {
        let key = |r: &Record| (r.child.0, r.at, r.from, r.order);
        a.sort_by_key(key);
        b.sort_by_key(key);
        a == b
    }

    proptest! {
        #[test]
        fn g7_what_was_recorded_is_found_from_both_ends_until_it_is_taken(
            put in collection::vec(record(), 0..40),
            taken in collection::vec((0..2_u16, any::<bool>(), 0..64_usize, 1..PAGES), 0..20),
        ) {
            let mut records = Records::new(PAGES).unwrap();
            let mut model = Vec::new();
            for one in put {
                prop_assert_eq!(records.with(one, || Ok(())), Ok(()));
                model.push(one);
            }
            for (n, parents, pick, pages) in taken {
                let end = if parents { End::Parent } else { End::Child };
                let Some(near) = model.get(pick).and_then(|one: &Record| one.frames(end)) else { continue };
                let r = GfnRange::new(Gfn(near.start().0.saturating_sub(pages / 2)), pages).unwrap();
                let (want, rest): (Vec<_>, _) =
                    model.into_iter().partition(|one| one.child == child(n) && one.touches(end, &r));
                let mut seen = Vec::new();
                records.each(end, &r, child(n), |one| seen.push(*one));
                prop_assert!(same(seen, want.clone()));
                let mut got = Vec::new();
                records.take(end, &r, child(n), |one| got.push(*one));
                prop_assert!(same(got, want));
                model = rest;
                prop_assert!(same(records.all().copied().collect(), model.clone()));
            }
            for n in 0..2 {
                let everything = GfnRange::new(Gfn(0), u64::MAX).unwrap();
                records.take(End::Child, &everything, child(n), |_| {});
            }
            prop_assert_eq!(records.all().count(), 0);
            prop_assert!(records.by_child.lists.iter().chain(&records.by_parent.lists).all(|l| l.capacity() == 0));
        }
    }

    #[test]
    fn r18_a_leaf_that_was_refused_leaves_no_record() {
        let mut records = Records::new(PAGES).unwrap();
        let one = Record { child: child(0), at: Gfn(3), from: Gfn(3), order: Order::PAGE };
        assert_eq!(records.with(one, || Err(NoMemory)), Err(NoMemory));
        assert_eq!(records.all().count(), 0);
        // Nor does one at the very end of the number space, where no leaf can be.
        let last = Record { at: Gfn(u64::MAX), ..one };
        assert_eq!(records.with(last, || panic!("nothing can be there")), Err(NoMemory));
    }
}
