//! The scenarios.

mod fault_unmap;
mod vm;

use crate::scenario::Model;

/// All of them.
pub static ALL: &[&dyn Model] = &[
    &fault_unmap::FIRST_TOUCH,
    &fault_unmap::MAPPED,
    &fault_unmap::TABLES,
    &fault_unmap::WRITE,
    &fault_unmap::WRITE_TABLES,
];
