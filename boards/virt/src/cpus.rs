//! The CPUs: PSCI starts those after the first, `start.S` gives them a stack, and they do what they were started for.

use backend_arm::el2::firmware;
use backend_arm::el2::gic::HostGic;
use backend_arm::machine::ArmMachine;
use board_kit::cpus::{self, Duty, Orders, StartBlock};
use board_kit::ends::refuse;
use hv_core::epoch::Cpu;
use hv_core::machine::{CpuId, StartCpuError};

use crate::{GIC, HYPERVISOR, MACHINE, Virt};

unsafe extern "C" {
    fn trivet_secondary();
}

/// Readies the calling CPU, which is `id`: its second stage, its interrupts.
pub fn open(machine: &ArmMachine, gic: &HostGic, id: CpuId) {
    if let Err(why) = machine.arrive() {
        refuse::<Virt>(&why);
    }
    // SAFETY: once on each CPU, by itself.
    unsafe { gic.open(id) };
}

/// Starts one CPU for `duty`.
pub fn start(id: CpuId, duty: Duty<ArmMachine>) -> Result<(), StartCpuError> {
    let affinity = MACHINE.get().and_then(|machine| machine.affinity(id)).ok_or(StartCpuError(-1))?;
    let entry = trivet_secondary as *const () as usize as u64;
    firmware::start_cpu(affinity, entry, StartBlock::leak(id, duty)?).map_err(StartCpuError)
}

/// The first Rust code of a further CPU.
#[unsafe(no_mangle)]
extern "C" fn trivet_secondary_main(orders: &'static Orders<ArmMachine>) -> ! {
    if let (Some(machine), Some(gic)) = (MACHINE.get(), GIC.get()) {
        open(machine, gic, orders.id());
    }
    orders.carry_out(MACHINE.get())
}

/// The usual duty: joins the scheduler.
pub fn schedule(_: &'static ArmMachine, cpu: &Cpu) -> ! {
    virt_loop::run(cpus::hypervisor(&HYPERVISOR, cpu), cpu)
}
