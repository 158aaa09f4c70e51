//! E0616: who is told of pages while a CPU may still store to them unnoticed copies them too early (R14).

use hv_core::mmu::dirty::{Found, PendingHarvest};
use hv_core::mmu::flush::Flushed;

pub fn tell(pending: PendingHarvest, receipt: &Flushed) -> u64 {
    #[cfg(misuse)]
    let found: Found = pending.0;
    #[cfg(not(misuse))]
    let found: Found = pending.after(receipt);
    let _ = receipt;
    found.pages()
}
