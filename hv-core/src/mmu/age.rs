//! Which pages were used since somebody last asked.
//!
//! ```text
//!   mmu lock -> bracket over the pages and the host leaves at their edges, grace
//!            -> each window onto them: `Stage2::age` -> flush -> bracket closed (sequence up), unlock
//! ```
//!
//! In a bracket for two reasons. Reference bits are cleared in one critical section that raises the sequence, so that what
//! was derived from them before is not published after (R15, exhibit A12). And where they cannot be cleared a translation is
//! removed for them: until the flush a CPU may hold it as a large leaf, and while a dirty log is on small ones would be
//! published beside it (G9).
//!
//! An answer is a hint: what is used between the look and the flush, or by the hypervisor itself, does not show.

use super::space::Space;
use super::zap::weaken;
use crate::addr::{Hvn, HvnRange, Order};
use crate::epoch::Cpu;
use crate::isa::{Isa, Stage2};

/// Tells `noted` which pages of `range` were used since the last call, leaf by leaf of stage 2: the first host page, and
/// the size; a large leaf may reach beyond the range, and a page that several windows show may be told of more than once.
/// `noted` runs under the mmu lock and waits for nothing. The caller holds no guard and not the mmu lock.
pub fn age<I: Isa>(cpu: &Cpu, m: &I::Machine, space: &Space<I>, range: HvnRange, noted: &mut dyn FnMut(Hvn, Order)) {
    // Without the host lock it may be too narrow for a leaf that has just been collapsed, which is then published large, if
    // at all: no small one comes beside it.
    let range = space.host.reach(cpu, m, range);
    let (_, flushed) = weaken(cpu, m, space, &range, &mut |windows, batch| {
        for (slot, gfns) in windows {
            space.stage2.age(cpu, m, *gfns, batch, &mut |gfn, order| {
                if let Some(page) = slot.hvn(gfn) {
                    noted(page, order);
                }
            });
        }
    });
    flushed.release(cpu, m);
}
