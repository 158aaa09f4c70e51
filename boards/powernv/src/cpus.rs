//! The CPUs after the first: OPAL starts them, one at a time, `start.S` gives them a stack, and they do what they were
//! started for.

use core::sync::atomic::{AtomicU64, Ordering};

use backend_ppc64::bare::machine::Bare;
use board_kit::cpus::{self, Duty, Orders, StartBlock};
use hv_core::epoch::Cpu;
use hv_core::machine::{CpuId, Machine, StartCpuError};

use crate::{HYPERVISOR, MACHINE, fail};

unsafe extern "C" {
    fn trivet_secondary_bare();
}

/// The start block of the CPU that is being started; it takes it out.
#[unsafe(no_mangle)]
static trivet_next_cpu: AtomicU64 = AtomicU64::new(0);

/// Seconds in which a CPU that firmware has started must be there.
const PATIENCE: u64 = 5;

/// Starts one CPU for `duty`. Called by the boot CPU only.
pub fn start(id: CpuId, duty: Duty<Bare>) -> Result<(), StartCpuError> {
    let unknown = StartCpuError(-1);
    let machine = MACHINE.get().ok_or(unknown)?;
    let thread = machine.thread(id).ok_or(unknown)?;
    let entry = trivet_secondary_bare as *const () as usize as u64;
    trivet_next_cpu.store(StartBlock::leak(id, duty)?, Ordering::Release);
    // SAFETY: the image's entry point of further CPUs.
    unsafe { fail::firmware().start_cpu(thread, entry) }.map_err(StartCpuError)?;
    let until = machine.now().after(machine.ticks_per_second() * PATIENCE);
    while trivet_next_cpu.load(Ordering::Acquire) != 0 {
        if machine.now() > until {
            return Err(unknown);
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// The first Rust code of a further CPU.
#[unsafe(no_mangle)]
extern "C" fn trivet_secondary_main(orders: &'static Orders<Bare>) -> ! {
    let machine = MACHINE.get();
    if let Some(Err(why)) = machine.map(Bare::arrive) {
        panic!("CPU {}: {why}", orders.id().0);
    }
    orders.carry_out(machine)
}

/// The usual duty: joins the scheduler.
pub fn schedule(_: &'static Bare, cpu: &Cpu) -> ! {
    powernv_loop::run(cpus::hypervisor(&HYPERVISOR, cpu), cpu)
}
