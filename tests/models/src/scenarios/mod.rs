//! The scenarios, by what they are about.

mod brackets;
mod commit;
mod fault_unmap;
mod frames;
mod gpc;
mod grace;
mod hash;
mod ready;
mod vm;

use crate::scenario::Model;

/// One list for each file.
static GROUPS: &[&[&dyn Model]] =
    &[fault_unmap::ALL, frames::ALL, grace::ALL, brackets::ALL, commit::ALL, hash::ALL, ready::ALL, gpc::ALL];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static dyn Model> {
    GROUPS.iter().flat_map(|group| group.iter()).copied()
}
