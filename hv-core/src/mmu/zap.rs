//! The host side's half: an invalidation from its first to its last step.
//!
//! ```text
//!   lock -> count up, range widened (R7) -> zap every window onto the range -> flush (R9) -> unlock     = begin
//!   the host table changes; inside the bracket no fault can publish a page of the range
//!   lock -> seq up, count down (R7) -> unlock                                                           = end
//!   tables that the zap unlinked: grace, then free
//! ```

use super::flush::FlushBatch;
use super::space::Space;
use crate::addr::HvnRange;
use crate::epoch::Cpu;
use crate::isa::{Isa, Stage2};
use crate::machine::Machine;

/// An open bracket after its flush: no translation of the range exists anywhere, nor can one be made, while this lives.
/// Only [`invalidate`] makes one, and lends it to the change it brackets.
#[derive(Debug)]
pub struct Bracket {
    range: HvnRange,
}

impl Bracket {
    /// The host pages it covers.
    #[must_use]
    pub fn range(&self) -> &HvnRange {
        &self.range
    }
}

/// Carries out `change` on the host pages of `range` with every derived translation gone. Balanced by construction (G8).
pub fn invalidate<I: Isa, R>(
    cpu: &Cpu,
    m: &I::Machine,
    of: &Space<I>,
    range: HvnRange,
    change: impl FnOnce(&Bracket) -> R,
) -> R {
    let flushed = {
        let mut guard = of.mmu.lock(cpu);
        guard.begin(range);
        let mut batch = FlushBatch::new(of.tag);
        // Slots are read after the count went up, so a window added later meets the open bracket.
        let slots = of.slots.all(&m.epoch().enter(cpu));
        for gfns in slots.iter().filter_map(|slot| slot.gfns_of(&range)) {
            of.stage2.unmap(cpu, m, gfns, &mut batch);
        }
        m.flush(batch)
    };
    let result = change(&Bracket { range });
    of.mmu.lock(cpu).end();
    flushed.release(cpu, m);
    result
}
