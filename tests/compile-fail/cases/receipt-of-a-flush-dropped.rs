//! unused_must_use: the tables that a flush held back are lost (R9, R20).

use hv_core::epoch::Cpu;
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;

pub fn flush<M: Machine>(cpu: &Cpu, m: &M, batch: FlushBatch) {
    #[cfg(misuse)]
    m.flush(batch);
    #[cfg(not(misuse))]
    m.flush(batch).release(cpu, m);
    let _ = cpu;
}
