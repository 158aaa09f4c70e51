//! The CPUs after the first: RTAS starts them, `start.S` gives them a stack, and they do what they were started for.

use alloc::boxed::Box;
use alloc::vec;

use backend_ppc64::nested::machine::Nested;
use backend_ppc64::nested::{irq, rtas};
use hv_core::epoch::Cpu;
use hv_core::machine::{CpuId, Machine, StartCpuError};

use crate::{HYPERVISOR, MACHINE};

/// Stack of a further CPU in bytes.
const STACK: usize = 32 << 10;

/// What a CPU does once it is up. It does not come back.
pub type Duty = fn(&'static Nested, &Cpu) -> !;

/// What `trivet_secondary` in `start.S` reads: a stack, and the argument of [`trivet_secondary_main`].
#[repr(C)]
struct StartBlock {
    stack_top: u64,
    argument: &'static Orders,
}

/// Who a CPU is, and what it is for.
struct Orders {
    id: CpuId,
    duty: Duty,
}

unsafe extern "C" {
    fn trivet_secondary();
}

/// Starts one CPU for `duty`. Its stack and its start block are never given back.
pub fn start(id: CpuId, duty: Duty) -> Result<(), StartCpuError> {
    let unknown = StartCpuError(-1);
    let machine = MACHINE.get().ok_or(unknown)?;
    let server = machine.server(id).ok_or(unknown)?;
    let stack = Box::leak(vec![0_u128; STACK / 16].into_boxed_slice());
    let stack_top = stack.as_mut_ptr_range().end.expose_provenance() as u64;
    let argument = Box::leak(Box::new(Orders { id, duty }));
    let block = Box::leak(Box::new(StartBlock { stack_top, argument }));
    let entry = trivet_secondary as *const () as usize;
    let at = (&raw const *block).expose_provenance();
    // The platform enters with 32-bit addresses, and loaded the image low enough for them.
    rtas::start_cpu(machine.tokens(), server, entry as u32, at as u32).map_err(StartCpuError)
}

/// The first Rust code of a further CPU.
#[unsafe(no_mangle)]
extern "C" fn trivet_secondary_main(orders: &'static Orders) -> ! {
    let id = orders.id.0;
    let Some(machine) = MACHINE.get() else { panic!("CPU {id} came up before the machine was known") };
    let Some(cpu) = machine.epoch().cpu(orders.id) else { panic!("CPU {id} came up twice") };
    irq::open();
    (orders.duty)(machine, &cpu)
}

/// The usual duty: joins the scheduler.
pub fn schedule(_: &'static Nested, cpu: &Cpu) -> ! {
    let Some(hypervisor) = HYPERVISOR.get() else { panic!("CPU {} came up before the hypervisor", cpu.id().0) };
    pseries_loop::run(hypervisor, cpu)
}
