//! E0505: an entry's cell is used after its walk is over, when the table may have been freed (R2).

use hv_core::epoch::Cpu;
use hv_core::machine::Machine;
use hv_core::radix::format::TableRef;
use hv_core::sync::Ordering;

pub fn read<M: Machine>(cpu: &Cpu, m: &M, table: TableRef) -> u64 {
    let guard = m.epoch().enter(cpu);
    let cell = m.pte(&guard, table, 0);
    #[cfg(misuse)]
    drop(guard);
    cell.load(Ordering::Acquire)
}
