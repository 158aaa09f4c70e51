//! E0624: an entry is changed by somebody who is not the table's owner (R4).

use hv_core::epoch::Cpu;
use hv_core::host::HostFormat;
use hv_core::machine::Machine;
use hv_core::radix::Radix;
use hv_core::radix::format::Pte;

pub fn clear<M: Machine>(cpu: &Cpu, m: &M, table: &Radix<HostFormat>) -> bool {
    let guard = m.epoch().enter(cpu);
    let Some(seen) = table.walk(m, &guard, 5) else { return false };
    #[cfg(misuse)]
    return seen.swap::<HostFormat>(Pte::Hole);
    #[cfg(not(misuse))]
    return seen.pte == Pte::Hole;
}
