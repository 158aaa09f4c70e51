//! E0451: host pages are taken away without the translations having been (R7, R8).

use hv_core::addr::HvnRange;
use hv_core::mmu::zap::Bracket;

pub fn make(range: HvnRange) -> Option<Bracket> {
    #[cfg(misuse)]
    return Some(Bracket { range });
    #[cfg(not(misuse))]
    {
        let _ = range;
        None
    }
}
