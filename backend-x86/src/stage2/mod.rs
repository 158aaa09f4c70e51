//! Second-stage tables: entries, the values that point hardware at them, and the kinds of table there are.
//!
//! A processor decides once, for all VMs, which kind it gets (`X86Stage2`): whose extension it is, and who notes that
//! a page was stored to. The world switches load `X86Stage2::pointer`.

pub mod format;
#[cfg(target_os = "none")]
pub mod found;
mod pointer;
#[cfg(target_os = "none")]
mod table;

use crate::features::Features;

pub use pointer::{eptp, nested_cr3};
#[cfg(target_os = "none")]
pub use table::X86Stage2;

/// A machine that says what its processors have. All of them have the same.
pub trait Processor {
    /// What they have.
    fn features(&self) -> &Features;
}
