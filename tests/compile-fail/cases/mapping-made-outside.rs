//! E0451: a translation that was never re-checked where it is published (R6).

use hv_core::addr::{Gfn, Order, Pfn};
use hv_core::mmu::level::Logging;
use hv_core::mmu::lock::Mapping;
use hv_core::radix::format::Prot;

pub fn make(gfn: Gfn, pfn: Pfn) -> Option<Mapping> {
    #[cfg(misuse)]
    return Some(Mapping { gfn, pfn, order: Order::PAGE, prot: Prot::all(), log: Logging::Off });
    #[cfg(not(misuse))]
    {
        let _ = (gfn, pfn, Order::PAGE, Prot::all(), Logging::Off);
        None
    }
}
