//! E0382: one sample of the invalidation sequence serves two attempts (R5).

use hv_core::addr::HvnRange;
use hv_core::epoch::Cpu;
use hv_core::machine::Machine;
use hv_core::mmu::lock::Mmu;

pub fn test<M: Machine>(cpu: &Cpu, m: &M, mmu: &Mmu, pages: HvnRange) -> bool {
    let seq = mmu.sample();
    let section = mmu.enter(cpu, m.epoch());
    let first = section.revalidate(seq, pages).is_ok();
    #[cfg(misuse)]
    let first = first && section.revalidate(seq, pages).is_ok();
    first
}
