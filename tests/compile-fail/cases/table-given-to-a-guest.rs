//! E0277: a frame of the hypervisor's own, here a table, becomes a guest's.

use hv_core::page::{GuestFrame, Zeroed};
use hv_core::radix::format::TableRef;

pub fn store(table: TableRef, zeroed: Zeroed) -> GuestFrame {
    #[cfg(misuse)]
    let zeroed = (table, zeroed).0;
    #[cfg(not(misuse))]
    let _ = table;
    GuestFrame::from(zeroed)
}
