//! The scenarios, by what they are about.

mod apic;
mod bbm;
mod brackets;
mod commit;
mod derived;
mod dirty;
mod fast;
mod fault_unmap;
mod frames;
mod gpc;
mod grace;
mod hardware;
mod hash;
mod hpt;
mod huge;
mod inside;
mod interrupts;
mod moves;
mod ready;
mod run;
mod shared;
mod slots;
mod structure;
mod swap;
mod tables;
mod team;
mod touch;
mod vm;
mod window;
mod words;

use crate::scenario::Model;

/// One list for each file.
static GROUPS: &[&[&dyn Model]] = &[
    fault_unmap::ALL,
    fast::ALL,
    grace::ALL,
    brackets::ALL,
    bbm::ALL,
    slots::ALL,
    huge::ALL,
    run::ALL,
    structure::ALL,
    swap::ALL,
    tables::ALL,
    team::ALL,
    touch::ALL,
    frames::ALL,
    commit::ALL,
    gpc::ALL,
    hash::ALL,
    hpt::ALL,
    interrupts::ALL,
    apic::ALL,
    inside::ALL,
    derived::ALL,
    hardware::ALL,
    dirty::ALL,
    ready::ALL,
    moves::ALL,
    shared::ALL,
    window::ALL,
];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static dyn Model> {
    GROUPS.iter().flat_map(|group| group.iter()).copied()
}
