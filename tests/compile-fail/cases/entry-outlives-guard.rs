//! E0597: what a walk found, cell and all, leaves the walk (R2).

use hv_core::epoch::Cpu;
use hv_core::host::HostFormat;
use hv_core::machine::Machine;
use hv_core::radix::Radix;
use hv_core::radix::format::Pte;

pub fn walk<M: Machine>(cpu: &Cpu, m: &M, table: &Radix<HostFormat>) -> Option<Pte> {
    let found;
    {
        let guard = m.epoch().enter(cpu);
        let seen = table.walk(m, &guard, 5);
        #[cfg(not(misuse))]
        {
            found = seen.map(|seen| seen.pte);
        }
        #[cfg(misuse)]
        {
            found = seen;
        }
    }
    #[cfg(misuse)]
    let found = found.map(|seen| seen.pte);
    found
}
