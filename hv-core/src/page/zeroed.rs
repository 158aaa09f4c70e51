//! Frames that are known to hold zeros.

use super::Zeroed;
use crate::addr::Order;
use crate::epoch::Cpu;
use crate::machine::Machine;

/// Takes a block of `order` that holds zeros; `None` if memory is out. Any CPU, with no guard held.
pub fn take<M: Machine>(cpu: &Cpu, m: &M, order: Order) -> Option<Zeroed> {
    Some(m.frames().alloc(cpu, order)?.zero(m))
}

/// Gives back a block that nobody was shown.
pub fn give<M: Machine>(cpu: &Cpu, m: &M, zeroed: Zeroed) {
    m.frames().free(cpu, zeroed.into_frame());
}
