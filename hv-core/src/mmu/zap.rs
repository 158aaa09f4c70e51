//! The host side's half: an invalidation from its first to its last step.
//!
//! ```text
//!   lock -> count up, range widened (R7) -> zap every window onto the range -> flush (R9) -> unlock     = begin
//!   the host table changes; inside the bracket no fault can publish a page of the range
//!   lock -> seq up, count down (R7) -> unlock                                                           = end
//!   tables that the zap unlinked: grace, then free
//! ```

use super::flush::FlushBatch;
use super::lock::Mmu;
use crate::addr::HvnRange;
use crate::epoch::Cpu;
use crate::isa::{Isa, Stage2, VmTag};
use crate::machine::Machine;
use crate::memslot::Memslots;

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

/// One VM's stage 2 as an invalidator needs it.
#[derive(Debug)]
pub struct Derived<'a, I: Isa> {
    /// The lock.
    pub mmu: &'a Mmu,
    /// The windows.
    pub slots: &'a Memslots,
    /// The table.
    pub stage2: &'a I::Stage2,
    /// The VM's name in translation caches.
    pub tag: VmTag,
}

/// Carries out `change` on the host pages of `range` with every derived translation gone. Balanced by construction (G8).
pub fn invalidate<I: Isa, R>(
    cpu: &Cpu,
    m: &I::Machine,
    of: &Derived<'_, I>,
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
