//! The bundle becomes a running hypervisor: the last steps of a boot with guests.

use alloc::sync::Arc;
use core::ops::Range;
use core::slice::from_ref;

use hv_core::device::console::Consoles;
use hv_core::epoch::Cpu;
use hv_core::guest::bundle::Bundle;
use hv_core::hypervisor::{Footprint, Hooks, Hypervisor};
use hv_core::isa::Isa;
use hv_core::machine::{Board, CpuId, Machine};
use hv_core::monitor::OwnMemory;
use hv_core::page::Packed;
use spin::Once;

use crate::ends::refuse;
use crate::{heap, log, memory};

/// What the boot has found and used, for the account that the operator sees. In bytes.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// RAM.
    pub memory: &'a [Range<u64>],
    /// How much of it firmware keeps.
    pub firmware: u64,
    /// Where the image lies.
    pub image: Range<u64>,
    /// Size of the frame allocator's account.
    pub metadata: u64,
    /// CPUs, the boot CPU among them.
    pub cpus: usize,
}

/// Opens the bundle, makes the hypervisor in `place`, starts the other CPUs and asks for every guest. Called once, by the
/// boot CPU, which then runs the hypervisor as the CPU that is returned.
pub fn start<B: Board>(
    machine: &'static <B::Isa as Isa>::Machine,
    place: &'static Once<Hypervisor<B::Isa>>,
    bundle: &'static [u8],
    found: &Found<'_>,
) -> (&'static Hypervisor<B::Isa>, Cpu) {
    let opened = match Bundle::open(bundle) {
        Ok(opened) => opened,
        Err(why) => refuse::<B>(&why),
    };
    let config = opened.config();
    let consoles = Consoles::new(B::console(), config.link, config.vms.iter().map(|vm| vm.name.as_str()));
    let footprint = Footprint {
        total: memory::total(found.memory),
        firmware: found.firmware,
        bundle: bundle.len() as u64,
        own: OwnMemory {
            image: memory::total(from_ref(&found.image)) - heap::SIZE,
            metadata: found.metadata,
            heap: heap::SIZE,
            tables: 0,
        },
    };
    let hypervisor = hypervisor::<B>(machine, place, consoles, opened, footprint);
    let Some(cpu) = machine.epoch().cpu(CpuId(0)) else { refuse::<B>(&"the boot CPU was taken twice") };
    let mut running = 1;
    for id in 1..found.cpus as u16 {
        match B::start_cpu(CpuId(id)) {
            Ok(()) => running += 1,
            Err(why) => hypervisor.console().say(format_args!("CPU {id} does not start: {why}")),
        }
    }
    hypervisor.announce(running);
    hypervisor.start_all();
    (hypervisor, cpu)
}

/// Makes the hypervisor. Not inlined: what it puts together and moves into place is large, and must not stay on the boot
/// CPU's stack, on which everything else will run.
#[inline(never)]
fn hypervisor<B: Board>(
    machine: &'static <B::Isa as Isa>::Machine,
    place: &'static Once<Hypervisor<B::Isa>>,
    consoles: Consoles,
    bundle: Bundle<'static>,
    footprint: Footprint,
) -> &'static Hypervisor<B::Isa> {
    let hooks = Hooks { drain_log: log::drain, power_off: B::power_off };
    let Some(store) = Packed::new() else { refuse::<B>(&"there is no heap for the swap store") };
    let Some(sched) = Hypervisor::scheduler(machine, &bundle) else {
        refuse::<B>(&"there is no heap for so many vCPUs")
    };
    place.call_once(|| Hypervisor::new(machine, consoles, sched, bundle, Arc::new(store), footprint, hooks))
}
