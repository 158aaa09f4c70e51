//! Memslots: the guest's windows onto its host space, gfn -> hva.
//!
//! A set of slots never changes; it is replaced. Two buffers take turns: a replacement is written into the one not in
//! use, published by one store, and the old buffer is not written again before a grace period has passed, so a reader
//! inside a walk guard always sees one whole set (R17). A copy of a slot outlives the guard; what goes by one is kept off by
//! `mmu::zap::rewindow`, which replaces sets for everybody: a bracket over all that old and new windows show is opened and
//! the old windows' translations are zapped before the set is replaced, and the sequence rises after (exhibit F5b).

use heapless::Vec;

use crate::addr::{Gfn, GfnRange, Hvn, HvnRange, Order, PAGE_SHIFT};
use crate::epoch::{Cpu, Domain, WalkGuard};
use crate::radix::format::Prot;
use crate::sync::{AtomicU64, AtomicUsize, Ordering, Rank, Ranked, RankedGuard, SMALL};

/// The most slots of one VM.
pub const MAX_SLOTS: usize = if SMALL { 2 } else { 8 };

/// One window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    gfns: GfnRange,
    base: Hvn,
    prot: Prot,
}

/// Why a set of slots was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotError {
    /// More than [`MAX_SLOTS`].
    TooMany,
    /// Two windows have a guest frame in common.
    Overlap,
    /// The window's end lies outside the guest's or the host space's addresses.
    Range,
    /// It does not begin and end where a run of the memory's granule does, in both spaces.
    Granule,
}

impl Slot {
    /// A window of guest frames `gfns` onto the host pages from `base`.
    pub fn new(gfns: GfnRange, base: Hvn, prot: Prot) -> Result<Self, SlotError> {
        let ends_in_reach = |end: u64| end <= 1 << (u64::BITS - PAGE_SHIFT);
        match base.checked_add(gfns.pages()) {
            Some(end) if ends_in_reach(end.0) && ends_in_reach(gfns.end().0) => Ok(Self { gfns, base, prot }),
            _ => Err(SlotError::Range),
        }
    }

    /// The guest frames it shows.
    #[must_use]
    pub fn gfns(&self) -> GfnRange {
        self.gfns
    }

    /// What the guest may do there.
    #[must_use]
    pub fn prot(&self) -> Prot {
        self.prot
    }

    /// True if guest frames, host pages and the window's length are multiples of this size.
    #[must_use]
    pub fn is_aligned(&self, order: Order) -> bool {
        order.aligned(self.gfns.start().0 | self.gfns.pages() | self.base.0)
    }

    /// The host page behind `gfn`; `None` outside the window.
    #[inline(always)]
    #[must_use]
    pub fn hvn(&self, gfn: Gfn) -> Option<Hvn> {
        if !self.gfns.contains(gfn) {
            return None;
        }
        self.base.checked_add(gfn.since(self.gfns.start())?)
    }

    /// The host pages behind those of `gfns` that the window shows.
    #[must_use]
    pub fn hvns_of(&self, gfns: &GfnRange) -> Option<HvnRange> {
        let shown = self.gfns.intersect(gfns)?;
        HvnRange::new(self.hvn(shown.start())?, shown.pages())
    }

    /// The guest frames through which the window shows any of `hvns`.
    #[must_use]
    pub fn gfns_of(&self, hvns: &HvnRange) -> Option<GfnRange> {
        let shown = HvnRange::new(self.base, self.gfns.pages())?.intersect(hvns)?;
        GfnRange::new(self.gfns.start().checked_add(shown.start().since(self.base)?)?, shown.pages())
    }
}

/// A copy of a VM's set of slots.
pub type SlotSet = Vec<Slot, MAX_SLOTS>;

/// One slot's words in a buffer: first gfn, pages, first host page, prot.
#[derive(Debug)]
struct Words([AtomicU64; 4]);

#[derive(Debug)]
struct Buffer {
    len: AtomicUsize,
    slots: [Words; MAX_SLOTS],
}

/// A VM's current set of slots.
#[derive(Debug)]
pub struct Memslots {
    /// Which buffer readers use.
    active: AtomicUsize,
    buffers: [Buffer; 2],
    writer: Ranked<()>,
}

impl Memslots {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        let words = || Words(core::array::from_fn(|_| AtomicU64::new(0)));
        let buffer = |_| Buffer { len: AtomicUsize::new(0), slots: core::array::from_fn(|_| words()) };
        Self {
            active: AtomicUsize::new(0),
            buffers: core::array::from_fn(buffer),
            writer: Ranked::new(Rank::Memslots, ()),
        }
    }

    /// Keeps other replacements away. Faults go on meanwhile.
    pub fn lock<'a>(&'a self, cpu: &'a Cpu) -> SlotWriter<'a> {
        SlotWriter { slots: self, cpu, _lock: self.writer.lock(cpu) }
    }

    /// The slot that shows `gfn`.
    #[inline]
    #[must_use]
    pub fn find(&self, _g: &WalkGuard<'_>, gfn: Gfn) -> Option<Slot> {
        self.current().iter().find(|words| words.contains(gfn))?.slot()
    }

    /// A copy of the set.
    #[must_use]
    pub fn all(&self, _g: &WalkGuard<'_>) -> SlotSet {
        self.current().iter().filter_map(Words::slot).collect()
    }

    /// The set, read in place; a guard keeps the buffer from being reused meanwhile.
    #[inline]
    fn current(&self) -> &[Words] {
        let buffer = self.buffers.get(self.active.load(Ordering::Acquire));
        buffer.and_then(|b| b.slots.get(..b.len.load(Ordering::Relaxed))).unwrap_or_default()
    }
}

/// The right to replace the set.
#[derive(Debug)]
pub struct SlotWriter<'a> {
    slots: &'a Memslots,
    cpu: &'a Cpu,
    _lock: RankedGuard<'a, ()>,
}

impl SlotWriter<'_> {
    /// The set as it is, and stays while the writer lives.
    #[must_use]
    pub fn all(&self, domain: &Domain) -> SlotSet {
        self.slots.all(&domain.enter(self.cpu))
    }

    /// Replaces the whole set. On return no reader sees the old one, but faults may still go by copies of its slots:
    /// `mmu::zap::rewindow` sees to those.
    pub fn replace(&self, domain: &Domain, new: &[Slot]) -> Result<(), SlotError> {
        check(new)?;
        let next = 1 - (self.slots.active.load(Ordering::Relaxed) & 1);
        let buffer = self.slots.buffers.get(next).ok_or(SlotError::TooMany)?;
        for (words, slot) in buffer.slots.iter().zip(new) {
            let values = [slot.gfns.start().0, slot.gfns.pages(), slot.base.0, u64::from(slot.prot.bits())];
            for (word, value) in words.0.iter().zip(values) {
                word.store(value, Ordering::Relaxed);
            }
        }
        buffer.len.store(new.len(), Ordering::Relaxed);
        self.slots.active.store(next, Ordering::Release);
        // The buffer just left is written by the next replacement; wait for its readers now, with the lock held.
        let _grace = domain.synchronize(self.cpu);
        Ok(())
    }
}

/// Can these slots be a set?
pub fn check(slots: &[Slot]) -> Result<(), SlotError> {
    if slots.len() > MAX_SLOTS {
        return Err(SlotError::TooMany);
    }
    for (n, slot) in slots.iter().enumerate() {
        if slots.iter().take(n).any(|other| other.gfns.intersect(&slot.gfns).is_some()) {
            return Err(SlotError::Overlap);
        }
    }
    Ok(())
}

impl Words {
    /// Does the slot show `gfn`?
    #[inline]
    fn contains(&self, gfn: Gfn) -> bool {
        let [start, pages, ..] = &self.0;
        gfn.0.wrapping_sub(start.load(Ordering::Relaxed)) < pages.load(Ordering::Relaxed)
    }

    #[inline]
    fn slot(&self) -> Option<Slot> {
        let [gfn, pages, base, prot] = &self.0;
        Some(Slot {
            gfns: GfnRange::new(Gfn(gfn.load(Ordering::Relaxed)), pages.load(Ordering::Relaxed))?,
            base: Hvn(base.load(Ordering::Relaxed)),
            prot: Prot::from_bits_truncate(prot.load(Ordering::Relaxed) as u8),
        })
    }
}

impl Default for Memslots {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{MAX_SLOTS, Memslots, Slot, SlotError};
    use crate::addr::{Gfn, GfnRange, Hvn, HvnRange};
    use crate::epoch::Domain;
    use crate::machine::CpuId;
    use crate::radix::format::Prot;

    fn slot(gfn: u64, pages: u64, hvn: u64) -> Slot {
        Slot::new(GfnRange::new(Gfn(gfn), pages).unwrap(), Hvn(hvn), Prot::all()).unwrap()
    }

    #[test]
    fn r17_a_set_is_replaced_whole() {
        let d = Domain::new();
        let cpu = d.cpu(CpuId(0)).unwrap();
        let slots = Memslots::new();
        for round in 0..5 {
            slots.lock(&cpu).replace(&d, &[slot(round, 4, 100), slot(50, 1, 7)]).unwrap();
            let g = d.enter(&cpu);
            assert_eq!(slots.find(&g, Gfn(round)).unwrap().hvn(Gfn(round + 3)), Some(Hvn(103)));
            assert_eq!(slots.find(&g, Gfn(50)).unwrap().hvn(Gfn(50)), Some(Hvn(7)));
            assert!(slots.find(&g, Gfn(round + 4)).is_none());
            assert_eq!(slots.all(&g).len(), 2);
        }
    }

    #[test]
    fn r17_bad_sets_are_refused_and_change_nothing() {
        let d = Domain::new();
        let cpu = d.cpu(CpuId(0)).unwrap();
        let slots = Memslots::new();
        slots.lock(&cpu).replace(&d, &[slot(0, 4, 0)]).unwrap();
        assert_eq!(slots.lock(&cpu).replace(&d, &[slot(0, 4, 0), slot(3, 1, 9)]), Err(SlotError::Overlap));
        let many: Vec<Slot> = (0..=MAX_SLOTS as u64).map(|n| slot(n, 1, n)).collect();
        assert_eq!(slots.lock(&cpu).replace(&d, &many), Err(SlotError::TooMany));
        assert_eq!(slots.all(&d.enter(&cpu)).len(), 1);
        let whole = GfnRange::new(Gfn(0), 1 << 53).unwrap();
        assert_eq!(Slot::new(whole, Hvn(0), Prot::all()), Err(SlotError::Range));
        assert_eq!(Slot::new(GfnRange::new(Gfn(0), 2).unwrap(), Hvn(u64::MAX - 1), Prot::all()), Err(SlotError::Range));
    }

    #[test]
    fn r17_windows_translate_both_ways_operand_by_operand() {
        let s = slot(10, 4, 1000);
        let gfns = GfnRange::new(Gfn(0), 12).unwrap();
        assert_eq!(s.hvns_of(&gfns), HvnRange::new(Hvn(1000), 2));
        let hvns = HvnRange::new(Hvn(1003), 50).unwrap();
        assert_eq!(s.gfns_of(&hvns), GfnRange::new(Gfn(13), 1));
        assert_eq!(s.hvn(Gfn(9)), None);
        assert_eq!(s.hvn(Gfn(14)), None);
    }
}
