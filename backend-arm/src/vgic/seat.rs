//! A vCPU's own interrupts, SGIs and PPIs, at home: INTIDs 0 to 31, one bit each.
//!
//! Latches are set by anybody and taken by the vCPU alone, each by one atomic operation. The rest is changed by whoever
//! writes the redistributor's registers, and read by the vCPU when it looks.

use hv_core::sync::{AtomicBool, AtomicU32, Ordering};

use super::dist::{GROUP0, GROUP1};
use super::lists::Group;
use super::{PRIORITY_MASK, Priority, TimerLines};

/// SGIs are edges, PPIs are levels; neither can be changed (GICR_ICFGR0 and, as the specification permits, 1).
pub const EDGES: u32 = 0xffff;

/// What the controller keeps for one vCPU.
#[derive(Debug)]
pub struct Seat {
    /// Something has changed that the vCPU has not looked at.
    look: AtomicBool,
    /// Pending latches at home.
    pub latch: AtomicU32,
    /// Lines that were up at the last fill or withdrawal, for GICR_ISPENDR0.
    lines: AtomicU32,
    /// GICR_ISENABLER0.
    pub enabled: AtomicU32,
    /// GICR_IGROUPR0.
    pub group1: AtomicU32,
    /// Active but not listed.
    pub parked: AtomicU32,
    /// Listed and pending, at the last look.
    pub shown_pending: AtomicU32,
    /// Listed and active, at the last look.
    pub shown_active: AtomicU32,
    /// Another vCPU cleared the pending state of these: what is listed goes at the next look.
    pub unpend: AtomicU32,
    /// Another vCPU cleared the active state of these.
    pub deactivate: AtomicU32,
    /// GICR_WAKER.ProcessorSleep. Says so, and has no effect: an SGI to a sleeping processor asks for its being woken.
    pub asleep: AtomicBool,
    /// SPIs (bit 0 is INTID 32) that it may take. Written under the lock of the SPIs.
    offered: AtomicU32,
    /// SPIs that it has acknowledged and does not list. Written under the same lock.
    parked_spis: AtomicU32,
    /// GICR_IPRIORITYR: four to a word, the lowest INTID in the lowest byte.
    priorities: [AtomicU32; 8],
}

impl Seat {
    pub fn new() -> Self {
        let word = || AtomicU32::new(0);
        Self {
            look: AtomicBool::new(false),
            latch: word(),
            lines: word(),
            enabled: word(),
            group1: word(),
            parked: word(),
            shown_pending: word(),
            shown_active: word(),
            unpend: word(),
            deactivate: word(),
            asleep: AtomicBool::new(true),
            offered: word(),
            parked_spis: word(),
            priorities: core::array::from_fn(|_| word()),
        }
    }

    #[inline]
    pub fn wants_look(&self) -> bool {
        self.look.load(Ordering::Relaxed)
    }

    /// Announces a change that has been made. A swap: after a plain store, who takes the announcement would see what this CPU
    /// has done, but not what one did whose announcement it has overwritten.
    #[inline]
    pub fn look(&self) {
        self.look.swap(true, Ordering::Release);
    }

    /// Takes the announcement, before what it may be about is read. A swap: a plain store could overwrite an announcement
    /// that it has not seen.
    #[inline]
    pub fn take_look(&self) {
        if self.wants_look() {
            self.look.swap(false, Ordering::Acquire);
        }
    }

    /// The timers' lines as they were last seen.
    #[inline]
    pub fn lines(&self) -> TimerLines {
        TimerLines(self.lines.load(Ordering::Relaxed))
    }

    /// What the vCPU lists now, and the timers' lines, for others to see.
    #[inline]
    pub fn show(&self, pending: u32, active: u32, timers: TimerLines) {
        self.shown_pending.store(pending, Ordering::Relaxed);
        self.shown_active.store(active, Ordering::Relaxed);
        self.lines.store(timers.0, Ordering::Relaxed);
    }

    #[inline]
    pub fn latch(&self, ids: u32) {
        self.latch.fetch_or(ids, Ordering::Release);
    }

    /// Takes a latch; whether it was set.
    #[inline]
    pub fn unlatch(&self, id: u32) -> bool {
        self.latch.fetch_and(!id, Ordering::Acquire) & id != 0
    }

    /// Those that may be forwarded: enabled, and of a group that is.
    #[inline]
    pub fn allowed(&self, groups: u32) -> u32 {
        self.enabled.load(Ordering::Relaxed) & of_groups(self.group1.load(Ordering::Relaxed), groups)
    }

    /// Those that the vCPU would take.
    #[inline]
    pub fn waiting(&self, groups: u32, timers: TimerLines) -> u32 {
        let pending = self.latch.load(Ordering::Acquire) | timers.0 & TimerLines::PHYSICAL;
        pending & self.allowed(groups) & !self.parked.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn priority(&self, id: u32) -> Priority {
        self.priorities.get(id as usize / 4).map_or(0, |word| {
            let [a, b, c, d] = word.load(Ordering::Relaxed).to_le_bytes();
            [a, b, c, d].get(id as usize % 4).copied().unwrap_or(0)
        })
    }

    /// Sets four priorities, those that `mask` has bytes for.
    pub fn set_priorities(&self, word: u32, value: u32, mask: u32) {
        if let Some(at) = self.priorities.get(word as usize) {
            let mask = mask & u32::from_le_bytes([PRIORITY_MASK; 4]);
            // Another writer of the same word, if there is one, wins or loses whole bytes; so it is on hardware.
            at.store(at.load(Ordering::Relaxed) & !mask | value & mask, Ordering::Relaxed);
        }
    }

    pub fn priorities(&self, word: u32) -> u32 {
        self.priorities.get(word as usize).map_or(0, |at| at.load(Ordering::Relaxed))
    }

    #[inline]
    pub fn group(&self, id: u32) -> Group {
        if self.group1.load(Ordering::Relaxed) >> (id & 31) & 1 == 0 { Group::Zero } else { Group::One }
    }

    /// SPIs that it may take. One load.
    #[inline]
    pub fn offered(&self) -> u32 {
        self.offered.load(Ordering::Acquire)
    }

    /// SPIs that it may take, or has acknowledged without listing them: there is a reason to take the lock.
    #[inline]
    pub fn has_spis(&self) -> bool {
        (self.offered() | self.parked_spis.load(Ordering::Relaxed)) != 0
    }

    /// True if latches are all that could concern the vCPU: no SPI, nothing parked, nothing to be undone.
    #[inline]
    pub fn has_latches_only(&self) -> bool {
        let word = |word: &AtomicU32| word.load(Ordering::Relaxed);
        let spis = word(&self.offered) | word(&self.parked_spis);
        // What is latched as a level (a PPI set pending by hand) is no message either.
        let levels = word(&self.latch) & !EDGES;
        spis | word(&self.parked) | word(&self.unpend) | word(&self.deactivate) | levels == 0
    }

    /// Of the SPIs `which` it may take `mine`, and it has parked `parked`. True if there is one that it could not take
    /// before. Called under the lock of the SPIs.
    pub fn offer(&self, which: u32, mine: u32, parked: u32) -> bool {
        let before = self.offered.load(Ordering::Relaxed);
        let after = before & !which | mine;
        if after != before {
            self.offered.store(after, Ordering::Release);
        }
        self.parked_spis.store(parked, Ordering::Relaxed);
        let more = after & !before != 0;
        if more {
            self.look();
        }
        more
    }
}

/// Which interrupts are of a group that GICD_CTLR forwards.
#[inline]
pub const fn of_groups(group1: u32, groups: u32) -> u32 {
    let one = if groups & GROUP1 != 0 { group1 } else { 0 };
    let zero = if groups & GROUP0 != 0 { !group1 } else { 0 };
    one | zero
}
