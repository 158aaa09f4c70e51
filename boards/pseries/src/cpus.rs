//! The CPUs after the first: RTAS starts them, `start.S` gives them a stack, and they do what they were started for.

use backend_ppc64::nested::machine::Nested;
use backend_ppc64::nested::{irq, rtas};
use board_kit::cpus::{self, Duty, Orders, StartBlock};
use hv_core::epoch::Cpu;
use hv_core::machine::{CpuId, StartCpuError};

use crate::{HYPERVISOR, MACHINE};

unsafe extern "C" {
    fn trivet_secondary();
}

/// Starts one CPU for `duty`.
pub fn start(id: CpuId, duty: Duty<Nested>) -> Result<(), StartCpuError> {
    let unknown = StartCpuError(-1);
    let machine = MACHINE.get().ok_or(unknown)?;
    let server = machine.server(id).ok_or(unknown)?;
    let entry = trivet_secondary as *const () as usize;
    let block = StartBlock::leak(id, duty)?;
    // The platform enters with 32-bit addresses, and loaded the image low enough for them.
    rtas::start_cpu(machine.tokens(), server, entry as u32, block as u32).map_err(StartCpuError)
}

/// The first Rust code of a further CPU.
#[unsafe(no_mangle)]
extern "C" fn trivet_secondary_main(orders: &'static Orders<Nested>) -> ! {
    irq::open();
    orders.carry_out(MACHINE.get())
}

/// The usual duty: joins the scheduler.
pub fn schedule(_: &'static Nested, cpu: &Cpu) -> ! {
    pseries_loop::run(cpus::hypervisor(&HYPERVISOR, cpu), cpu)
}
