//! Objects give pages up when memory is short, an extent at a time.
//!
//! ```text
//!   the hand goes over the extents, in a circle
//!     an extent of which nothing lives: its lock only
//!     was any page of it used through any VM since the last time?     mappers lock, each mapper's age (mmu/age.rs)
//!     if not, or in the third round: it is swapped out                swap.rs, breaking.rs
//! ```
//!
//! An extent goes whole, since it is unmapped whole: what of it is in use comes back before it is marked, page by page, and
//! stays. As for a VM's own memory (`host/reclaim.rs`), three rounds find something if there is anything to be found.

use super::extent::Held;
use super::tmpfs::Tmpfs;
use crate::epoch::Cpu;
use crate::host::{HUGE, MOST_REFUSED, Reclaimed};
use crate::isa::Isa;
use crate::machine::Machine;
use crate::mmu::age;
use crate::sync::Ordering;

/// Rounds that the hand makes at most; in the last it does not ask what was used.
const ROUNDS: u64 = 3;

impl<I: Isa> Tmpfs<I> {
    /// Gives pages that are not used to the store, until `want` frames have been freed or none is left that it would take.
    /// Takes its turn among all reclaimers of the machine. The caller holds no guard and no ranked lock.
    pub fn reclaim(&self, cpu: &Cpu, m: &I::Machine, want: u64) -> Reclaimed {
        let _turn = m.frames().reclaiming(cpu);
        self.sweep(cpu, m, want)
    }

    /// The same for a reclaimer whose turn it is.
    pub(crate) fn sweep(&self, cpu: &Cpu, m: &I::Machine, want: u64) -> Reclaimed {
        let (mut done, count) = (Reclaimed::default(), self.extents.len() as u64);
        if self.store.is_none() {
            return done;
        }
        for step in 0..count.saturating_mul(ROUNDS) {
            if done.freed >= want || done.refused >= MOST_REFUSED {
                break;
            }
            let hand = self.hand.load(Ordering::Relaxed);
            self.hand.store(hand.wrapping_add(1), Ordering::Relaxed);
            let base = hand.checked_rem(count).unwrap_or(0).saturating_mul(HUGE.pages());
            let lives = |(extent, _): (Held<'_>, u64)| extent.there(cpu, m).count() > 0;
            if !self.hold(cpu, base).is_some_and(lives) {
                continue;
            }
            done.looked = done.looked.saturating_add(1);
            let last = step >= count.saturating_mul(ROUNDS.saturating_sub(1));
            if self.used(cpu, m, base) && !last {
                continue;
            }
            if let Ok((taken, refused)) = self.take_out(cpu, m, base, || {}) {
                done.freed = done.freed.saturating_add(taken);
                done.refused = done.refused.saturating_add(refused);
            }
        }
        done
    }

    /// True if a page of the extent at `base` was used through any VM since the last call. Asks all of them.
    fn used(&self, cpu: &Cpu, m: &I::Machine, base: u64) -> bool {
        let mappers = self.mappers.lock(cpu);
        let mut used = false;
        for mapper in mappers.iter() {
            if let Some(hvns) = mapper.hvns_of(base, base.saturating_add(HUGE.pages())) {
                age(cpu, m, &mapper.space, hvns, &mut |_, _| used = true);
            }
        }
        used
    }
}
