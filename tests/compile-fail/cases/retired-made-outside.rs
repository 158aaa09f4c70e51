//! E0423: somebody says that a grace period is over who did not wait for one (R20).

use hv_core::epoch::Retired;
use hv_core::radix::format::TableRef;

pub fn make(table: TableRef) -> Option<Retired<TableRef>> {
    #[cfg(misuse)]
    return Some(Retired(table));
    #[cfg(not(misuse))]
    {
        let _ = table;
        None
    }
}
