//! The host table: the truth about a VM's memory. One per VM: hva -> frame, or nothing yet, or in transition.
//!
//! Stage 2 is derived from it and may be dropped at any time; only changes here fire the notifier.

mod format;
mod space;

pub use format::HostFormat;
pub use space::{HostPage, HostSpace, Peek, Populate, Punched};
