//! E0423: somebody vouches that commits test the host's leaf, so that translations may be taken away before the mark (R13).

use hv_core::mmu::lock::PrimaryTested;

pub fn vouch() -> Option<PrimaryTested> {
    #[cfg(misuse)]
    return Some(PrimaryTested(()));
    #[cfg(not(misuse))]
    None
}
