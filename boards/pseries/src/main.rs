//! Trivet on pseries: a PAPR partition that is itself a hypervisor, by the platform's nested-HV interface.
//!
//! This file wires objects, in the order in which a boot needs them: who entered us and how, the machine's inventory,
//! free memory, the bundle, the hypervisor, the other CPUs. What each of them does is told where it is defined.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the image's entry points, its heap, and memory that firmware hands over")]

extern crate alloc;

#[cfg(feature = "conformance")]
mod conformance;
mod cpus;
mod fail;
mod heap;
mod log;

use alloc::vec::Vec;
use core::ops::Range;

use backend_ppc64::boot::client::Client;
use backend_ppc64::boot::inventory::Inventory;
use backend_ppc64::boot::{opal, vectors};
use backend_ppc64::nested::console::{self, Terminal};
use backend_ppc64::nested::hcall::{H_SET_MODE, hcall};
use backend_ppc64::nested::machine::Nested;
use backend_ppc64::nested::{Ppc64, irq, rtas};
use hv_core::addr::{PAGE_SHIFT, Pfn, PfnRange};
use hv_core::device::console::Consoles;
use hv_core::guest::bundle::Bundle;
use hv_core::hypervisor::{Footprint, Hooks, Hypervisor};
use hv_core::machine::{Board, Console, CpuId, Machine, StartCpuError, Verdict};
use hv_core::monitor::OwnMemory;
use hv_core::page::{Frames, Packed, free_ranges};
use spin::Once;

#[cfg(feature = "conformance")]
use conformance::run as without_guests;
use fail::refuse;

/// The board.
enum Pseries {}

impl Board for Pseries {
    type Isa = Ppc64;

    fn console() -> &'static dyn Console {
        &Terminal
    }

    fn start_cpu(id: CpuId) -> Result<(), StartCpuError> {
        cpus::start(id, cpus::schedule)
    }

    fn power_off(verdict: Verdict) -> ! {
        fail::power_off(verdict)
    }
}

/// The machine, for whoever cannot be passed it.
static MACHINE: Once<Nested> = Once::new();
/// The hypervisor, for CPUs that come up later and for panics.
static HYPERVISOR: Once<Hypervisor<<Pseries as Board>::Isa>> = Once::new();

/// Low memory: interrupt vectors, and what firmware leaves below the image.
const LOW: Range<u64> = 0..0x1_0000;

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

/// The first Rust code, on the boot CPU. Arguments as `start.S` documents the ways of entry.
#[unsafe(no_mangle)]
extern "C" fn trivet_boot(r3: u64, r4: u64, r5: u64, _base: u64, hv: u64, r8: u64, r9: u64) -> ! {
    if hv != 0 {
        // SAFETY: MSR[HV] says that this is bare metal under skiboot, which passes OPAL in r8 and r9.
        unsafe { opal::refuse("TRIVET REFUSES: bare powernv machines have no board yet; use pseries\n", r8, r9) }
    }
    let (inventory, tree) = if r5 != 0 { by_client_interface(r5) } else { by_tree(r3) };
    fail::end_by(inventory.rtas);
    // Both firmwares pass the bundle in registers as well, and one of them nowhere else.
    let in_registers = (r5 != 0 && r3 != 0 && r4 != 0).then(|| r3..r3.saturating_add(r4));
    let bundle = inventory.bundle.clone().or(in_registers);

    // SAFETY: firmware has answered its last question; low memory is ours.
    unsafe {
        hcall(H_SET_MODE, [1, 4, 0, 0]);
        vectors::install();
    }
    let image = (&raw const __image_start as u64)..(&raw const __image_end as u64);
    let mut holes = alloc::vec![LOW, image.clone(), tree];
    holes.extend(bundle.clone());
    holes.extend(inventory.reserved.iter().cloned());
    let free = free_ranges(&inventory.memory, &holes);
    let (frames, metadata) = frames(&free);

    let machine = machine(&inventory, frames);
    irq::open();
    if let Some(vty) = &inventory.vty {
        console::enable_interrupt(vty);
        if let (Some(source), Some(server)) = (vty.irq, inventory.cpus.first()) {
            rtas::set_xive(machine.tokens(), source, *server, irq::PRIORITY);
        }
    }

    let Some(range) = bundle else {
        without_guests(machine, inventory.cpus.len());
    };
    // SAFETY: the bundle's memory is RAM that firmware filled, no allocator hands it out, and nobody writes it.
    let bytes = unsafe {
        core::slice::from_raw_parts(
            core::ptr::with_exposed_provenance::<u8>(range.start as usize),
            (range.end - range.start) as usize,
        )
    };
    let bundle = match Bundle::open(bytes) {
        Ok(bundle) => bundle,
        Err(why) => refuse(None, &why),
    };
    let config = bundle.config();
    let consoles = Consoles::new(Pseries::console(), config.link, config.vms.iter().map(|vm| vm.name.as_str()));
    let size = |r: &Range<u64>| r.end.saturating_sub(r.start);
    let footprint = Footprint {
        total: inventory.memory.iter().map(size).sum(),
        firmware: size(&LOW) + inventory.reserved.iter().map(size).sum::<u64>(),
        bundle: size(&range),
        own: OwnMemory { image: size(&image) - heap::SIZE, metadata, heap: heap::SIZE, tables: 0 },
    };
    let hypervisor = hypervisor(machine, consoles, bundle, footprint);
    let Some(cpu) = machine.epoch().cpu(CpuId(0)) else { refuse(None, &"the boot CPU was taken twice") };
    let mut running = 1;
    for id in 1..inventory.cpus.len() as u16 {
        match Pseries::start_cpu(CpuId(id)) {
            Ok(()) => running += 1,
            Err(StartCpuError(code)) => {
                hypervisor.console().say(format_args!("CPU {id} does not start: firmware says {code}"))
            }
        }
    }
    hypervisor.announce(running);
    hypervisor.start_all();
    pseries_loop::run(hypervisor, &cpu)
}

/// Takes the machine over. Not inlined, nor is the next: what they put together and move into place is large, and must
/// not stay on the boot CPU's stack, on which everything else will run.
#[inline(never)]
fn machine(inventory: &Inventory, frames: Frames) -> &'static Nested {
    match Nested::new(inventory, frames) {
        Ok(machine) => MACHINE.call_once(|| machine),
        Err(why) => refuse(None, &why),
    }
}

/// Makes the hypervisor.
#[inline(never)]
fn hypervisor(
    machine: &'static Nested,
    consoles: Consoles,
    bundle: Bundle<'static>,
    footprint: Footprint,
) -> &'static Hypervisor<<Pseries as Board>::Isa> {
    let hooks = Hooks { drain_log: log::drain, power_off: Pseries::power_off };
    let Some(store) = Packed::new() else { refuse(None, &"there is no heap for the swap store") };
    HYPERVISOR.call_once(|| Hypervisor::new(machine, consoles, bundle, store, footprint, hooks))
}

/// Ends a run that was given no guests.
#[cfg(not(feature = "conformance"))]
fn without_guests(_: &'static Nested, _cpus: usize) -> ! {
    refuse(None, &"the machine was started without a bundle of guests (-initrd)")
}

/// Asks Open Firmware for the tree. Its memory is free afterwards.
fn by_client_interface(entry: u64) -> (Inventory, Range<u64>) {
    // SAFETY: r5 at entry, and nothing has been written outside the image.
    let client = unsafe { Client::new(entry) };
    let tree = match client.flatten() {
        Ok(tree) => tree,
        Err(why) => refuse(None, &why),
    };
    (inventory(&tree), 0..0)
}

/// Reads a tree that is in memory; `at` comes from whoever entered us.
fn by_tree(at: u64) -> (Inventory, Range<u64>) {
    let start = core::ptr::with_exposed_provenance::<u8>(at as usize);
    // SAFETY: this way of entry promises a flattened tree in r3; its header says how long it is.
    let size = unsafe { u32::from_be_bytes(start.add(4).cast::<[u8; 4]>().read_unaligned()) } as usize;
    // SAFETY: as above; nobody writes it.
    let tree = unsafe { core::slice::from_raw_parts(start, size) };
    (inventory(tree), at..at.saturating_add(size as u64))
}

fn inventory(tree: &[u8]) -> Inventory {
    match Inventory::read(tree) {
        Ok(found) => found,
        Err(why) => refuse(None, &why),
    }
}

/// The frame allocator over free memory, its account taken from the start of the largest range; and that account's size.
fn frames(free: &[Range<u64>]) -> (Frames, u64) {
    let ranges: Vec<PfnRange> = free
        .iter()
        .filter_map(|r| PfnRange::new(Pfn(r.start >> PAGE_SHIFT), (r.end - r.start) >> PAGE_SHIFT))
        .collect();
    let Some(largest) = ranges.iter().copied().max_by_key(PfnRange::pages) else {
        refuse(None, &"the machine has no free memory");
    };
    let bytes = (Frames::metadata_words(&ranges) * 8).next_multiple_of(1 << PAGE_SHIFT) as u64;
    let pages = bytes >> PAGE_SHIFT;
    if largest.pages() <= pages {
        refuse(None, &"the machine has too little memory");
    }
    let rest: Vec<PfnRange> = ranges
        .iter()
        .filter_map(|r| {
            let skip = if r.start() == largest.start() { pages } else { 0 };
            PfnRange::new(Pfn(r.start().0 + skip), r.pages() - skip)
        })
        .collect();
    // SAFETY: free RAM that only this slice will name from now on.
    let metadata = unsafe {
        let at = core::ptr::with_exposed_provenance_mut::<u64>((largest.start().0 << PAGE_SHIFT) as usize);
        at.write_bytes(0, bytes as usize / 8);
        core::slice::from_raw_parts_mut(at, bytes as usize / 8)
    };
    match Frames::new(&rest, metadata) {
        Ok(frames) => (frames, bytes),
        Err(why) => refuse(None, &format_args!("the machine's memory cannot be managed: {why:?}")),
    }
}
