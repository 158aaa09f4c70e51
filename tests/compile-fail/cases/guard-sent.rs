//! E0277: a walk guard goes to another thread, which is another CPU: the epoch is published in the first one's slot (R2).

use hv_core::epoch::Cpu;
use hv_core::machine::Machine;

fn elsewhere<T: Send>(_: T) {}

pub fn send<M: Machine>(cpu: &Cpu, m: &M) {
    let guard = m.epoch().enter(cpu);
    #[cfg(misuse)]
    elsewhere(guard);
    #[cfg(not(misuse))]
    elsewhere(guard.cpu().map(Cpu::id));
}
