//! E0624: a frame number, which anybody may have read anywhere, becomes a frame that somebody owns (R24).

use hv_core::addr::{Order, Pfn};
use hv_core::page::GuestFrame;

pub fn make(pfn: Pfn) -> Option<GuestFrame> {
    #[cfg(misuse)]
    return Some(GuestFrame::owned(pfn, Order::PAGE));
    #[cfg(not(misuse))]
    {
        let _ = (pfn, Order::PAGE);
        None
    }
}
