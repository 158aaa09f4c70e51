//! unused_must_use: translations are removed from the table and never from the caches (R8, R9).

use hv_core::addr::GfnRange;
use hv_core::epoch::Cpu;
use hv_core::isa::{Isa, Stage2, Unmapped};
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;
use hv_core::mmu::space::Space;

fn unmap<I: Isa>(cpu: &Cpu, m: &I::Machine, s: &Space<I>, gfns: GfnRange) -> FlushBatch {
    let mut batch = FlushBatch::new(s.tag);
    while s.stage2.unmap(cpu, m, gfns, &mut batch, None) == Unmapped::TablesLeft && batch.room() {}
    batch
}

pub fn take_away<I: Isa>(cpu: &Cpu, m: &I::Machine, s: &Space<I>, gfns: GfnRange) {
    #[cfg(misuse)]
    unmap(cpu, m, s, gfns);
    #[cfg(not(misuse))]
    m.flush(unmap(cpu, m, s, gfns)).release(cpu, m);
}
