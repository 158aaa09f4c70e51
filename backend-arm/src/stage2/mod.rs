//! Second-stage tables: entries, the registers that point at them, and the kinds of table there are.
//!
//! A processor decides once, for all VMs, which kind it gets ([`ArmStage2`]): how memory is made cacheable and who notes that
//! a page was stored to. `machine/` flushes them, `vcpu/` loads [`ArmStage2::vttbr`].

pub mod format;
pub mod registers;
mod table;

pub use table::{ArmStage2, Processor};
