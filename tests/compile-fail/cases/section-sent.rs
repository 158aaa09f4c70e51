//! E0277: a commit section goes to another thread, whom no invalidator would wait for (R6).

use hv_core::epoch::Cpu;
use hv_core::machine::Machine;
use hv_core::mmu::lock::Mmu;

fn elsewhere<T: Send>(_: T) {}

pub fn send<M: Machine>(cpu: &Cpu, m: &M, mmu: &Mmu) {
    let section = mmu.enter(cpu, m.epoch());
    #[cfg(misuse)]
    elsewhere(section);
    #[cfg(not(misuse))]
    elsewhere(section.walk().cpu().map(Cpu::id));
}
