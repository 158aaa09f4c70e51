//! Grace periods: who may still be looking at a table page or a frame that has been unlinked.
//!
//! Protocol. A CPU that walks a table holds a [`WalkGuard`]: entering publishes, in the CPU's own cache line, the epoch
//! it saw, followed by a full fence; leaving clears it. Whoever unlinks something takes a [`Stamp`] after the
//! unlinking: a full fence, then the epoch counter goes up. The stamp has passed when every CPU was seen outside any
//! guard, or inside one that began at that epoch or later.
//!
//! Why that is enough: either the unlinker's look at a slot comes after the walker's publication, and it waits; or it
//! comes before, then the walker's fence comes after the unlinker's, and the walk that follows sees the unlinked state.
//! A walker that read the raised epoch synchronizes with the unlinker through the counter itself.
//!
//! Membership is explicit: a CPU is a [`Cpu`] value, taken once, and there is no guard without one.
//! Rules: R2, R20.

use core::cell::Cell;
use core::marker::PhantomData;

use crate::machine::CpuId;
use crate::sync::{AtomicU64, Ordering, Rank, SMALL, fence, spin_loop};

/// The most CPUs a domain has room for.
pub const MAX_CPUS: usize = if SMALL { 4 } else { 64 };

/// Slot value of a CPU outside every guard. Epochs begin at 1.
const OUTSIDE: u64 = 0;

/// One CPU's published epoch, alone in its cache line so that entering a guard disturbs nobody.
#[derive(Debug)]
#[repr(align(128))]
struct Slot(AtomicU64);

/// A set of CPUs that wait for each other's walks.
#[derive(Debug)]
pub struct Domain {
    epoch: AtomicU64,
    /// Bit n: slot n has been taken by a [`Cpu`].
    members: AtomicU64,
    slots: [Slot; MAX_CPUS],
}

impl Domain {
    /// A domain without members.
    #[cfg(not(any(loom, shuttle)))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            epoch: AtomicU64::new(1),
            members: AtomicU64::new(0),
            slots: [const { Slot(AtomicU64::new(OUTSIDE)) }; MAX_CPUS],
        }
    }

    /// A domain without members.
    #[cfg(any(loom, shuttle))]
    #[must_use]
    pub fn new() -> Self {
        Self {
            epoch: AtomicU64::new(1),
            members: AtomicU64::new(0),
            slots: core::array::from_fn(|_| Slot(AtomicU64::new(OUTSIDE))),
        }
    }

    /// Makes the calling CPU a member. `None` if the number is [`MAX_CPUS`] or more, or has been taken and not dropped.
    ///
    /// Called once on each CPU as it comes up; the value is how everything else knows who is calling.
    #[must_use]
    pub fn cpu(&self, id: CpuId) -> Option<Cpu> {
        let bit = 1_u64.checked_shl(u32::from(id.0)).filter(|_| usize::from(id.0) < MAX_CPUS)?;
        if self.members.fetch_or(bit, Ordering::SeqCst) & bit != 0 {
            return None;
        }
        Some(Cpu { id, depth: Cell::new(0), ranks: Cell::new(0), reclaiming: Cell::new(false), not_send: PhantomData })
    }

    /// Gives a CPU's number back. Called when it leaves for good.
    pub fn leave(&self, cpu: Cpu) {
        debug_assert!(cpu.depth.get() == 0, "R27: a CPU left its domain inside a walk");
        debug_assert!(cpu.ranks.get() == 0, "R27: a CPU left its domain with a lock");
        self.members.fetch_and(!(1_u64 << cpu.id.0), Ordering::SeqCst);
    }

    /// Begins a walk on `cpu`. Guards nest; only the outermost one does any work. Wait for nothing while holding one.
    #[inline]
    #[must_use]
    pub fn enter<'c>(&'c self, cpu: &'c Cpu) -> WalkGuard<'c> {
        let slot = self.slot(cpu);
        let depth = cpu.depth.get();
        if depth == 0
            && let Some(slot) = slot
        {
            slot.store(self.epoch.load(Ordering::Acquire), Ordering::Relaxed);
            // Orders the publication before every read of the walk. Pairs with the fence in stamp().
            fence(Ordering::SeqCst);
        }
        cpu.depth.set(depth.saturating_add(1));
        WalkGuard { slot, cpu, atomic: false }
    }

    /// Marks now as the time when something was unlinked. Call it after the unlinking.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        // Orders the unlinking before the look at the slots. Pairs with the fence in enter().
        fence(Ordering::SeqCst);
        Stamp(self.epoch.fetch_add(1, Ordering::AcqRel).wrapping_add(1))
    }

    /// True once no walk can see what was unlinked before `stamp`.
    #[must_use]
    pub fn passed(&self, stamp: Stamp) -> bool {
        let mut left = self.members.load(Ordering::SeqCst);
        while left != 0 {
            let n = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            // Acquire pairs with the release in WalkGuard's drop: what the walk did is done before we free.
            let seen = self.slots.get(n).map_or(OUTSIDE, |s| s.0.load(Ordering::Acquire));
            if seen != OUTSIDE && seen < stamp.0 {
                return false;
            }
        }
        true
    }

    /// Waits until no walk can see what was unlinked before the call. The caller holds no guard and no lock that a
    /// walker may want.
    pub fn synchronize(&self, cpu: &Cpu) -> Grace {
        debug_assert!(cpu.depth.get() == 0, "a grace period awaited inside a walk never ends");
        let stamp = self.stamp();
        while !self.passed(stamp) {
            spin_loop();
        }
        Grace(())
    }

    #[inline]
    fn slot(&self, cpu: &Cpu) -> Option<&AtomicU64> {
        self.slots.get(usize::from(cpu.id.0)).map(|s| &s.0)
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self::new()
    }
}

/// The calling CPU: who enters guards and takes ranked locks. One value per CPU, never sent to another.
#[derive(Debug)]
pub struct Cpu {
    id: CpuId,
    depth: Cell<u32>,
    /// Bit n: a lock of rank n is held. Kept in the dev profile only.
    ranks: Cell<u8>,
    /// It is freeing frames, and may take from the reserve to do so.
    reclaiming: Cell<bool>,
    not_send: PhantomData<*mut ()>,
}

impl Cpu {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> CpuId {
        self.id
    }

    /// True while it is freeing frames.
    pub(crate) fn is_reclaiming(&self) -> bool {
        self.reclaiming.get()
    }

    /// It is, or it has ended; returns what it was before. For `page/reserve.rs`.
    pub(crate) fn set_reclaiming(&self, now: bool) -> bool {
        self.reclaiming.replace(now)
    }

    /// Notes a lock of `rank` as held; it must lie above all that are held already.
    pub(crate) fn rank_up(&self, rank: Rank) {
        if cfg!(debug_assertions) {
            let held = self.ranks.get();
            debug_assert!(self.depth.get() == 0, "R21: a ranked lock taken inside a walk: {rank:?}");
            debug_assert!(held >> (rank as u8) == 0, "R21: lock order: {rank:?} under {held:#b}");
            self.ranks.set(held | 1 << (rank as u8));
        }
    }

    /// Notes a lock of `rank` as released.
    pub(crate) fn rank_down(&self, rank: Rank) {
        if cfg!(debug_assertions) {
            self.ranks.set(self.ranks.get() & !(1 << (rank as u8)));
        }
    }
}

/// A walk in progress: table pages and frames found during it stay what they are until it ends (R2).
///
/// Not `Send`. Entry cells borrow from it; what leaves it is a copied value.
#[derive(Debug)]
pub struct WalkGuard<'c> {
    slot: Option<&'c AtomicU64>,
    cpu: &'c Cpu,
    /// Begun where nothing may be waited for.
    atomic: bool,
}

impl<'c> WalkGuard<'c> {
    /// Who is walking, if frames may be taken on the way; `None` in a walk that an [`crate::context::Atomic`] began.
    #[must_use]
    pub fn cpu(&self) -> Option<&'c Cpu> {
        (!self.atomic).then_some(self.cpu)
    }

    /// The same walk, from which no frame can be had.
    #[inline]
    pub(crate) fn atomic(mut self) -> Self {
        // Not by an update of its fields: they are Copy, and `self`, dropped, would end the walk.
        self.atomic = true;
        self
    }
}

impl Drop for WalkGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        end(self.cpu, self.slot);
    }
}

/// Ends a walk. A call: walks end in hundreds of places, and a call is a third of what it does.
#[inline(never)]
fn end(cpu: &Cpu, slot: Option<&AtomicU64>) {
    let depth = cpu.depth.get().saturating_sub(1);
    cpu.depth.set(depth);
    if depth == 0
        && let Some(slot) = slot
    {
        slot.store(OUTSIDE, Ordering::Release);
    }
}

/// A moment in a domain's time. See [`Domain::stamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

/// Proof that a grace period ended; it covers whatever had been unlinked before it began.
#[derive(Debug)]
pub struct Grace(());

impl Grace {
    /// Vouches for something that was unlinked before the grace period began.
    pub(crate) fn retire<T>(&self, t: T) -> Retired<T> {
        Retired(t)
    }
}

/// Something that was never visible to any other CPU needs no grace.
pub(crate) fn never_published<T>(t: T) -> Retired<T> {
    Retired(t)
}

/// Something that no walk can see any more, and that may therefore be freed. Made only in this module.
#[derive(Debug)]
#[must_use = "what is retired is to be freed"]
pub struct Retired<T>(T);

impl<T> Retired<T> {
    /// A look at it.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// Takes it out, to free or re-use it.
    pub fn into_inner(self) -> T {
        self.0
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Domain, MAX_CPUS};
    use crate::machine::CpuId;

    #[test]
    fn r2_a_stamp_waits_for_older_guards_only() {
        let d = Domain::new();
        let (a, b) = (d.cpu(CpuId(0)).unwrap(), d.cpu(CpuId(1)).unwrap());
        let old = d.enter(&a);
        let stamp = d.stamp();
        assert!(!d.passed(stamp));
        let young = d.enter(&b);
        assert!(!d.passed(stamp));
        drop(old);
        assert!(d.passed(stamp), "the younger walk began after the unlinking");
        drop(young);
    }

    #[test]
    fn r2_nested_guards_end_with_the_outermost() {
        let d = Domain::new();
        let a = d.cpu(CpuId(3)).unwrap();
        let outer = d.enter(&a);
        let inner = d.enter(&a);
        let stamp = d.stamp();
        drop(inner);
        assert!(!d.passed(stamp));
        drop(outer);
        assert!(d.passed(stamp));
    }

    #[test]
    fn g10_an_atomic_walk_is_a_walk_without_a_cpu() {
        let d = Domain::new();
        let a = d.cpu(CpuId(3)).unwrap();
        let walk = crate::context::Atomic::on(&a).enter(&d);
        assert!(walk.cpu().is_none());
        let stamp = d.stamp();
        assert!(!d.passed(stamp), "who frees must wait for it");
        drop(walk);
        assert!(d.passed(stamp));
        assert!(d.enter(&a).cpu().is_some());
    }

    #[test]
    fn a_cpu_number_has_one_holder() {
        let d = Domain::new();
        let a = d.cpu(CpuId(5)).unwrap();
        assert!(d.cpu(CpuId(5)).is_none());
        d.leave(a);
        assert!(d.cpu(CpuId(5)).is_some());
        assert!(d.cpu(CpuId(MAX_CPUS as u16)).is_none());
        assert!(d.cpu(CpuId(u16::MAX)).is_none());
    }
}
