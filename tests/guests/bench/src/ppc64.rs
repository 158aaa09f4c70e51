//! What is measured on POWER only: nothing beyond what every architecture has.

use super::{Counts, Scale};
use crate::machine::Tree;

core::arch::global_asm!(include_str!("ppc64.S"), options(raw));

/// A number that no personality gives a meaning: answered with H_FUNCTION.
pub const NOTHING: u64 = 0x3f_fffc;

/// Nothing.
pub fn more(_: &Tree, _: &mut Counts, _: &Scale) {}
