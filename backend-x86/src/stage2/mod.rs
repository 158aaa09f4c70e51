//! Second-stage tables: entries, the values that point hardware at them, and the kinds of table there are.
//!
//! A processor decides once, for all VMs, which kind it gets ([`X86Stage2`]): whose extension it is, and who notes that
//! a page was stored to. The world switches load [`X86Stage2::pointer`].

pub mod format;
mod pointer;
mod table;

pub use pointer::{eptp, nested_cr3};
pub use table::{Processor, X86Stage2};
