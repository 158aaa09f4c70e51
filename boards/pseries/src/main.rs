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

use core::ops::Range;

use backend_ppc64::bare::opal::Opal;
use backend_ppc64::boot::client::Client;
use backend_ppc64::boot::inventory::Inventory;
use backend_ppc64::boot::{handed, vectors};
use backend_ppc64::nested::console::{self, Terminal};
use backend_ppc64::nested::hcall::{H_SET_MODE, hcall};
use backend_ppc64::nested::machine::Nested;
use backend_ppc64::nested::{Ppc64, irq, rtas};
use backend_ppc64::vcpu::sprs::timebase;
use board_kit::ends::refuse;
use board_kit::guests::{self, Found};
use board_kit::memory;
use hv_core::hypervisor::Hypervisor;
use hv_core::machine::{Board, Console, CpuId, StartCpuError, Verdict};
use hv_core::page::{Frames, free_ranges};
use spin::Once;

#[cfg(feature = "conformance")]
use conformance::run as without_guests;

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

// Every pseries platform has a timebase of 512 MHz (LoPAPR).
defmt::timestamp!("{=u64:us}", timebase() / 512);

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
        let opal = unsafe { Opal::new(r8, r9) };
        opal.write(b"TRIVET REFUSES: this image is for pseries; a bare machine needs that of board powernv\n");
        opal.power_off()
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
    // SAFETY: everything else that is in use was left out.
    let (frames, metadata) = unsafe { memory::frames::<Pseries>(&free) };

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
    // SAFETY: it is RAM that firmware filled, no allocator hands it out, and nobody writes it.
    let bundle = unsafe { memory::handed(&range) };
    let found = Found {
        memory: &inventory.memory,
        firmware: LOW.end + memory::total(&inventory.reserved),
        image,
        metadata,
        cpus: inventory.cpus.len(),
    };
    let (hypervisor, cpu) = guests::start::<Pseries>(machine, &HYPERVISOR, bundle, &found);
    pseries_loop::run(hypervisor, &cpu)
}

/// Takes the machine over. Not inlined: what it puts together and moves into place is large, and must not stay on
/// the boot CPU's stack, on which everything else will run.
#[inline(never)]
fn machine(inventory: &Inventory, frames: Frames) -> &'static Nested {
    match Nested::new(inventory, frames) {
        Ok(machine) => MACHINE.call_once(|| machine),
        Err(why) => refuse::<Pseries>(&why),
    }
}

/// Ends a run that was given no guests.
#[cfg(not(feature = "conformance"))]
fn without_guests(_: &'static Nested, _cpus: usize) -> ! {
    refuse::<Pseries>(&"the machine was started without a bundle of guests (-initrd)")
}

/// Asks Open Firmware for the tree. Its memory is free afterwards.
fn by_client_interface(entry: u64) -> (Inventory, Range<u64>) {
    // SAFETY: r5 at entry, and nothing has been written outside the image.
    let client = unsafe { Client::new(entry) };
    let tree = match client.flatten() {
        Ok(tree) => tree,
        Err(why) => refuse::<Pseries>(&why),
    };
    (inventory(&tree), 0..0)
}

/// Reads a tree that is in memory; `at` comes from whoever entered us.
fn by_tree(at: u64) -> (Inventory, Range<u64>) {
    // SAFETY: this way of entry promises a flattened tree in r3, and nobody writes it.
    let tree = unsafe { handed::tree(at) };
    (inventory(tree), at..at.saturating_add(tree.len() as u64))
}

fn inventory(tree: &[u8]) -> Inventory {
    match Inventory::read(tree) {
        Ok(found) => found,
        Err(why) => refuse::<Pseries>(&why),
    }
}
