//! The scenarios.

mod commit;
mod fault_unmap;
mod ready;
mod vm;

use crate::scenario::Model;

/// All of them.
pub static ALL: &[&dyn Model] = &[
    &fault_unmap::FIRST_TOUCH,
    &fault_unmap::MAPPED,
    &fault_unmap::TABLES,
    &fault_unmap::WRITE,
    &fault_unmap::WRITE_TABLES,
    &ready::RUN_DRAIN,
    &ready::RUNS_DRAIN,
    &ready::DRAINS_RUN,
    &ready::BUILDERS,
    &ready::RUN_BUILD,
    &ready::FAILS,
    &ready::BUILD_DRAIN,
    &ready::FAIL_DRAIN,
    &ready::ROUNDS,
    &commit::COPY,
    &commit::COPY_TWICE,
    &commit::COPY_TORN,
    &commit::WINDOW,
];
