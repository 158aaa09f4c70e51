//! E0382: a frame is given back twice (R24).

use hv_core::epoch::Cpu;
use hv_core::machine::Machine;
use hv_core::page::Frame;

pub fn free<M: Machine>(cpu: &Cpu, m: &M, frame: Frame) {
    m.frames().free(cpu, frame);
    #[cfg(misuse)]
    m.frames().free(cpu, frame);
}
