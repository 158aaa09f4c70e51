//! E0277: a guest is shown what a frame held before (R25).

use hv_core::machine::Machine;
use hv_core::page::{Frame, GuestFrame};

pub fn store<M: Machine>(m: &M, frame: Frame) -> GuestFrame {
    #[cfg(misuse)]
    let content = frame;
    #[cfg(not(misuse))]
    let content = frame.zero(m);
    let _ = m;
    GuestFrame::from(content)
}
