//! Trivet on bare POWER machines: in hypervisor mode, under skiboot.
//!
//! This file wires objects, in the order in which a boot needs them: firmware, the machine's inventory, free memory, the
//! vectors, the bundle, the hypervisor, the other CPUs. What each of them does is told where it is defined.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the image's entry points, and memory that firmware hands over")]

extern crate alloc;

#[cfg(feature = "conformance")]
mod conformance;
mod cpus;
mod fail;

use backend_ppc64::bare::hashed::Rare;
use backend_ppc64::bare::machine::Bare;
use backend_ppc64::bare::opal::Opal;
use backend_ppc64::bare::words::{Words, first};
use backend_ppc64::bare::{Ppc64Bare, vectors};
use backend_ppc64::boot::handed;
use backend_ppc64::boot::inventory::Inventory;
use backend_ppc64::nested::console::Terminal;
use backend_ppc64::vcpu::sprs::{this_thread, timebase};
use board_kit::ends::refuse;
use board_kit::guests::{self, Found};
use board_kit::memory;
use hv_core::epoch::MAX_CPUS;
use hv_core::hypervisor::Hypervisor;
use hv_core::machine::{Board, Console, CpuId, StartCpuError, Verdict};
use hv_core::page::{Frames, free_ranges};
use spin::Once;

#[cfg(feature = "conformance")]
use conformance::run as without_guests;

/// The board.
enum Powernv {}

impl Board for Powernv {
    type Isa = Ppc64Bare;

    fn console() -> &'static dyn Console {
        fail::firmware()
    }

    fn start_cpu(id: CpuId) -> Result<(), StartCpuError> {
        cpus::start(id, cpus::schedule)
    }

    fn power_off(verdict: Verdict) -> ! {
        fail::power_off(verdict)
    }
}

/// The machine, for whoever cannot be passed it.
static MACHINE: Once<Bare> = Once::new();
/// The hypervisor, for CPUs that come up later and for panics.
static HYPERVISOR: Once<Hypervisor<<Powernv as Board>::Isa>> = Once::new();

// The timebase of POWER8 and later has 512 MHz.
defmt::timestamp!("{=u64:us}", timebase() / 512);

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

/// The first Rust code, on the boot CPU. Arguments as `start.S` documents the ways of entry.
#[unsafe(no_mangle)]
extern "C" fn trivet_boot(r3: u64, _r4: u64, _r5: u64, _base: u64, hv: u64, r8: u64, r9: u64) -> ! {
    if hv == 0 {
        Terminal.write(b"TRIVET REFUSES: this image is for bare machines; a partition needs that of board pseries\n");
        loop {
            core::hint::spin_loop();
        }
    }
    // SAFETY: MSR[HV] says that this is bare metal, where skiboot passes OPAL in r8 and r9. What it keeps is left alone below.
    fail::end_by(unsafe { Opal::new(r8, r9) });
    // SAFETY: skiboot passes a flattened tree in r3.
    let tree = unsafe { handed::tree(r3) };
    let mut inventory = match Inventory::read(tree) {
        Ok(found) => found,
        Err(why) => refuse::<Powernv>(&why),
    };
    boot_cpu_first(&mut inventory.cpus);
    // SAFETY: firmware's own interrupts are over, and low memory is ours. None comes before the machine is there.
    unsafe { vectors::install() };

    let image = (&raw const __image_start as u64)..(&raw const __image_end as u64);
    let mut holes = alloc::vec![vectors::LOW, image.clone(), r3..r3.saturating_add(tree.len() as u64)];
    holes.extend(inventory.bundle.clone());
    holes.extend(inventory.reserved.iter().cloned());
    let free = first(free_ranges(&inventory.memory, &holes), Words::of(tree).memory().unwrap_or(u64::MAX));
    // SAFETY: everything else that is in use was left out.
    let (frames, metadata) = unsafe { memory::frames::<Powernv>(&free) };
    let machine = machine(&inventory, frames);

    let Some(range) = inventory.bundle else {
        without_guests(machine, inventory.cpus.len(), tree);
    };
    // SAFETY: it is RAM that firmware filled, no allocator hands it out, and nobody writes it.
    let bundle = unsafe { memory::handed(&range) };
    let found = Found {
        memory: &inventory.memory,
        firmware: vectors::LOW.end + memory::total(&inventory.reserved),
        image,
        metadata,
        cpus: inventory.cpus.len(),
    };
    let (hypervisor, cpu) = guests::start::<Powernv>(machine, &HYPERVISOR, bundle, &found);
    powernv_loop::run(hypervisor, &cpu)
}

/// Trivet's CPU 0 is the one that boots, whichever firmware chose, and there are no more than it can use.
fn boot_cpu_first(cpus: &mut alloc::vec::Vec<u32>) {
    if let Some(at) = cpus.iter().position(|&thread| thread == this_thread()) {
        cpus.swap(0, at);
    }
    cpus.truncate(MAX_CPUS);
}

/// Takes the machine over. Not inlined: what it puts together and moves into place is large, and must not stay on
/// the boot CPU's stack, on which everything else will run.
#[inline(never)]
fn machine(inventory: &Inventory, frames: Frames) -> &'static Bare {
    match Bare::new(inventory, frames, fail::firmware(), Rare::new()) {
        Ok(machine) => MACHINE.call_once(|| machine),
        Err(why) => refuse::<Powernv>(&why),
    }
}

/// Ends a run that was given no guests.
#[cfg(not(feature = "conformance"))]
fn without_guests(_: &'static Bare, _cpus: usize, _tree: &[u8]) -> ! {
    refuse::<Powernv>(&"the machine was started without a bundle of guests (-initrd)")
}
