//! The CPUs: the boot CPU starts the others one by one, `start.S` gives them a stack, and they do what they were started for.

use backend_x86::host::{apic, descriptors, secondary};
use backend_x86::machine::X86Machine;
use board_kit::cpus::{self, Duty, Orders, StartBlock};
use board_kit::ends::refuse;
use hv_core::epoch::Cpu;
use hv_core::machine::{CpuId, StartCpuError};

use crate::{HYPERVISOR, MACHINE, Pc, START_PAGE};

/// Readies the calling CPU, which is `id`: the extension by which guests run.
pub fn open(machine: &X86Machine, id: CpuId) {
    if let Err(why) = machine.arrive(id) {
        refuse::<Pc>(&why);
    }
}

/// Starts one CPU for `duty`.
pub fn start(id: CpuId, duty: Duty<X86Machine>) -> Result<(), StartCpuError> {
    let apic_id = MACHINE.get().and_then(|machine| machine.apic_id(id)).ok_or(secondary::ABSENT)?;
    let page = START_PAGE.get().copied().ok_or(secondary::NO_PAGE)?;
    let block = StartBlock::leak(id, duty)?;
    // SAFETY: the page is not given out, and the block stays.
    unsafe { secondary::start(apic_id, block, page) }
}

/// The first Rust code of a further CPU.
#[unsafe(no_mangle)]
extern "C" fn trivet_secondary_main(orders: &'static Orders<X86Machine>) -> ! {
    // SAFETY: the boot CPU has filled the descriptors in, and found out about APICs.
    unsafe {
        descriptors::load();
        apic::open();
    }
    if let Some(machine) = MACHINE.get() {
        open(machine, orders.id());
    }
    orders.carry_out(MACHINE.get())
}

/// The usual duty: joins the scheduler.
pub fn schedule(_: &'static X86Machine, cpu: &Cpu) -> ! {
    pc_loop::run(cpus::hypervisor(&HYPERVISOR, cpu), cpu)
}
