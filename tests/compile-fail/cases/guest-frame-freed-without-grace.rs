//! E0308: a guest's frame is freed while walks may know its number, or the guest use it (R20, G1).

use hv_core::epoch::{Cpu, Retired};
use hv_core::machine::Machine;
use hv_core::page::GuestFrame;

pub fn free<M: Machine>(cpu: &Cpu, m: &M, retired: Retired<GuestFrame>) {
    #[cfg(misuse)]
    let retired = retired.into_inner();
    m.frames().free_guest(cpu, retired);
}
