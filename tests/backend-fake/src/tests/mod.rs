//! The checkers, checked: what each of them must notice.

mod arena;
mod hardware;

use std::num::NonZeroU16;

use hv_core::epoch::Cpu;
use hv_core::isa::VmTag;
use hv_core::machine::{CpuId, Machine};

use crate::FakeMachine;

const TAG: VmTag = VmTag(NonZeroU16::MIN);

/// Runs `with` on CPU 0 of a machine of 6 GiB.
fn on_machine(with: impl FnOnce(&FakeMachine, &Cpu)) {
    let m = FakeMachine::new(3 << 19);
    let cpu = m.epoch().cpu(CpuId(0)).unwrap();
    with(&m, &cpu);
}

/// The oracles and rules that have been seen broken.
fn broken(m: &FakeMachine) -> Vec<String> {
    m.violations().iter().filter_map(|v| Some(v.split_once(':')?.0.to_owned())).collect()
}
