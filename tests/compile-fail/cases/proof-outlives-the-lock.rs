//! E0505: the second form of the test, under the mmu lock, is used after the lock was let go (R6).

use hv_core::addr::HvnRange;
use hv_core::epoch::Cpu;
use hv_core::mmu::lock::{Alone, Mmu};

fn change(_: Alone<'_, '_>) {}

pub fn test(cpu: &Cpu, mmu: &Mmu, pages: HvnRange) {
    let seq = mmu.sample();
    let mut guard = mmu.lock(cpu);
    let Ok(alone) = guard.revalidate(seq, pages) else { return };
    #[cfg(misuse)]
    drop(guard);
    change(alone);
}
