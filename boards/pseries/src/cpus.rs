//! The CPUs after the first: RTAS starts them, `start.S` gives them a stack, and they join the scheduler.

use alloc::boxed::Box;
use alloc::vec;

use backend_ppc64::nested::{irq, rtas};
use hv_core::machine::{CpuId, Machine, StartCpuError};

use crate::{HYPERVISOR, MACHINE};

/// Stack of a further CPU in bytes.
const STACK: usize = 32 << 10;

/// What `trivet_secondary` in `start.S` reads.
#[repr(C)]
struct StartBlock {
    stack_top: u64,
    argument: u64,
}

unsafe extern "C" {
    fn trivet_secondary();
}

/// Starts one CPU. Its stack and its start block are never given back.
pub fn start(id: CpuId) -> Result<(), StartCpuError> {
    let unknown = StartCpuError(-1);
    let machine = MACHINE.get().ok_or(unknown)?;
    let server = machine.server(id).ok_or(unknown)?;
    let stack = Box::leak(vec![0_u128; STACK / 16].into_boxed_slice());
    let stack_top = stack.as_mut_ptr_range().end.expose_provenance() as u64;
    let block = Box::leak(Box::new(StartBlock { stack_top, argument: id.0.into() }));
    let entry = trivet_secondary as *const () as usize;
    let at = (&raw const *block).expose_provenance();
    // The platform enters with 32-bit addresses, and loaded the image low enough for them.
    rtas::start_cpu(machine.tokens(), server, entry as u32, at as u32).map_err(StartCpuError)
}

/// The first Rust code of a further CPU.
#[unsafe(no_mangle)]
extern "C" fn trivet_secondary_main(id: u64) -> ! {
    let (Some(machine), Some(hypervisor)) = (MACHINE.get(), HYPERVISOR.get()) else {
        panic!("CPU {id} came up before the hypervisor");
    };
    let Some(cpu) = machine.epoch().cpu(CpuId(id as u16)) else { panic!("CPU {id} came up twice") };
    irq::open();
    hypervisor.run(&cpu)
}
