//! E0308: a table is freed while walks may be in it (R2, R20).

use hv_core::epoch::{Cpu, Retired};
use hv_core::machine::Machine;
use hv_core::radix::format::TableRef;

pub fn free<M: Machine>(cpu: &Cpu, m: &M, table: TableRef, retired: Retired<TableRef>) {
    #[cfg(misuse)]
    let retired = (table, retired).0;
    #[cfg(not(misuse))]
    let _ = table;
    m.free_table(cpu, retired);
}
