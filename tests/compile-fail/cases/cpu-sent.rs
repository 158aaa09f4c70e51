//! E0277: a CPU is what only the thread that runs on it has.

use hv_core::epoch::Cpu;

fn elsewhere<T: Send>(_: T) {}

pub fn send(cpu: Cpu) {
    #[cfg(misuse)]
    elsewhere(cpu);
    #[cfg(not(misuse))]
    elsewhere(cpu.id());
}
