//! The CPUs after the first. The board's firmware starts them, its entry code reads the [`StartBlock`], and they do what
//! they were started for.

use alloc::boxed::Box;

use hv_core::epoch::Cpu;
use hv_core::heap::{boxed, list};
use hv_core::hypervisor::Hypervisor;
use hv_core::isa::Isa;
use hv_core::machine::{CpuId, Machine, StartCpuError};
use spin::Once;

/// Stack of a further CPU in bytes.
const STACK: usize = 32 << 10;

/// What a CPU does once it is up. It does not come back.
pub type Duty<M> = fn(&'static M, &Cpu) -> !;

/// The hypervisor, for a CPU that joins its scheduler. It is there before such a CPU is started.
#[must_use]
pub fn hypervisor<I: Isa>(place: &'static Once<Hypervisor<I>>, cpu: &Cpu) -> &'static Hypervisor<I> {
    let Some(hypervisor) = place.get() else { panic!("CPU {} came up before the hypervisor", cpu.id().0) };
    hypervisor
}

/// What the entry code reads: a stack, and the argument of the first Rust function on it.
#[repr(C)]
#[derive(Debug)]
pub struct StartBlock<M: 'static> {
    stack_top: u64,
    orders: &'static Orders<M>,
}

/// Who a CPU is, and what it is for.
#[derive(Debug)]
pub struct Orders<M: 'static> {
    id: CpuId,
    duty: Duty<M>,
}

impl<M: Machine> StartBlock<M> {
    /// Makes the block of a CPU, and its stack; returns its address. Neither is ever given back. Of many CPUs the last find
    /// no heap for theirs.
    pub fn leak(id: CpuId, duty: Duty<M>) -> Result<u64, StartCpuError> {
        let orders = boxed(Orders { id, duty }).map_err(|_| StartCpuError::NO_HEAP)?;
        let stack = list(STACK / 16, |_| Some(0_u128)).ok_or(StartCpuError::NO_HEAP)?.leak();
        let stack_top = stack.as_mut_ptr_range().end.expose_provenance() as u64;
        let block = boxed(Self { stack_top, orders: Box::leak(orders) }).map_err(|_| StartCpuError::NO_HEAP)?;
        Ok((&raw const *Box::leak(block)).expose_provenance() as u64)
    }
}

impl<M: Machine> Orders<M> {
    /// The CPU that they are for.
    #[must_use]
    pub const fn id(&self) -> CpuId {
        self.id
    }

    /// Carries them out. The calling CPU is the one that they are for, and `machine` is there if it was told of.
    pub fn carry_out(&self, machine: Option<&'static M>) -> ! {
        let id = self.id.0;
        let Some(machine) = machine else { panic!("CPU {id} came up before the machine was known") };
        let Some(cpu) = machine.epoch().cpu(self.id) else { panic!("CPU {id} came up twice") };
        (self.duty)(machine, &cpu)
    }
}
