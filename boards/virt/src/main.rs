//! Trivet on virt: EL2 of a machine with a GICv3, a PL011 and PSCI.
//!
//! This file wires objects, in the order in which a boot needs them: the machine's inventory, Trivet's own translations, free
//! memory, interrupts, the bundle, the hypervisor, the other CPUs. What each of them does is told where it is defined.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the image's entry points, and memory that the loader hands over")]

extern crate alloc;

#[cfg(feature = "conformance")]
mod conformance;
mod cpus;
mod fail;

use backend_arm::Arm64;
use backend_arm::el2::gic::HostGic;
use backend_arm::el2::inventory::Inventory;
use backend_arm::el2::pl011::Pl011;
use backend_arm::el2::{firmware, map, mmu};
use backend_arm::machine::clock::microseconds;
use backend_arm::machine::{ArmMachine, Found as Parts};
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
enum Virt {}

impl Board for Virt {
    type Isa = Arm64;

    fn console() -> &'static dyn Console {
        &CONSOLE
    }

    fn start_cpu(id: CpuId) -> Result<(), StartCpuError> {
        cpus::start(id, cpus::schedule)
    }

    fn power_off(verdict: Verdict) -> ! {
        fail::power_off(verdict)
    }
}

static CONSOLE: Pl011 = Pl011::new();
/// The machine, for whoever cannot be passed it.
static MACHINE: Once<ArmMachine> = Once::new();
/// Its interrupt controller, for CPUs that come up later.
static GIC: Once<HostGic> = Once::new();
/// The hypervisor, for CPUs that come up later and for panics.
static HYPERVISOR: Once<Hypervisor<<Virt as Board>::Isa>> = Once::new();

defmt::timestamp!("{=u64:us}", microseconds());

/// A device tree is no larger (Linux: Documentation/arch/arm64/booting.rst), and so much of it `start.S` has mapped.
const TREE_LIMIT: usize = 2 << 20;

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

/// The first Rust code, on the boot CPU: the device tree's address, and the exception level that the loader left us at.
#[unsafe(no_mangle)]
extern "C" fn trivet_boot(tree: u64, level: u64) -> ! {
    // SAFETY: the loader's promise.
    let blob = unsafe { blob(tree) };
    let inventory = match Inventory::read(blob, firmware::this_cpu()) {
        Ok(found) => found,
        Err(why) => refuse::<Virt>(&why),
    };
    fail::end_by(inventory.conduit);
    if let Some(uart) = &inventory.uart {
        // SAFETY: the device tree has it, and what is not memory is mapped as devices.
        unsafe { CONSOLE.is_at(uart) };
    }
    if level != 2 {
        refuse::<Virt>(&format_args!("it was entered at EL{level} and needs EL2 (on QEMU: -M virt,virtualization=on)"));
    }

    let image = (&raw const __image_start as u64)..(&raw const __image_end as u64);
    let usable = map::usable(&inventory.memory);
    // SAFETY: once, and no other CPU is up.
    if let Err(why) = unsafe { mmu::switch(&usable, &image) } {
        refuse::<Virt>(&why);
    }
    let tree = tree..tree.saturating_add(blob.len() as u64);
    let mut holes = alloc::vec![image.clone(), tree];
    holes.extend(inventory.bundle.clone());
    holes.extend(inventory.reserved.iter().cloned());
    let free = free_ranges(&usable, &holes);
    // SAFETY: everything else that is in use was left out.
    let (frames, metadata) = unsafe { memory::frames::<Virt>(&free) };

    // SAFETY: once; what is not memory is mapped as devices.
    let gic = match unsafe { HostGic::new(&inventory.gic, &inventory.cpus) } {
        Ok(gic) => GIC.call_once(|| gic),
        Err(why) => refuse::<Virt>(&why),
    };
    let machine = machine(&inventory, frames);
    cpus::open(machine, gic, CpuId(0));
    if let (Some(line), Some(first)) = (inventory.uart.and_then(|uart| uart.irq), inventory.cpus.first()) {
        // SAFETY: no other CPU is up.
        if unsafe { gic.route(line, *first) } {
            CONSOLE.enable_interrupt();
        }
    }

    let Some(range) = inventory.bundle.clone() else {
        without_guests(machine, inventory.cpus.len());
    };
    if !usable.iter().any(|r| r.start <= range.start && range.end <= r.end) {
        refuse::<Virt>(&"the bundle of guests lies outside of memory");
    }
    // SAFETY: it is RAM that the loader filled, no allocator hands it out, and nobody writes it.
    let bundle = unsafe { memory::handed(&range) };
    let found = Found {
        memory: &inventory.memory,
        firmware: memory::total(&inventory.reserved),
        image,
        metadata,
        cpus: inventory.cpus.len(),
    };
    let (hypervisor, cpu) = guests::start::<Virt>(machine, &HYPERVISOR, bundle, &found);
    virt_loop::run(hypervisor, &cpu)
}

/// Takes the machine over. Not inlined: what it puts together and moves into place is large, and must not stay on
/// the boot CPU's stack, on which everything else will run.
#[inline(never)]
fn machine(inventory: &Inventory, frames: Frames) -> &'static ArmMachine {
    let parts = Parts {
        cpus: inventory.cpus.clone(),
        rtc: inventory.rtc,
        console_irq: inventory.uart.and_then(|uart| uart.irq),
    };
    match ArmMachine::new(&parts, frames) {
        Ok(machine) => MACHINE.call_once(|| machine),
        Err(why) => refuse::<Virt>(&why),
    }
}

/// Ends a run that was given no guests.
#[cfg(not(feature = "conformance"))]
fn without_guests(_: &'static ArmMachine, _cpus: usize) -> ! {
    refuse::<Virt>(&"the machine was started without a bundle of guests (-initrd)")
}

/// The device tree at `at`, as long as its header says.
///
/// # Safety
/// There is one, and nobody writes it.
unsafe fn blob(at: u64) -> &'static [u8] {
    let start = core::ptr::with_exposed_provenance::<u8>(at as usize);
    // SAFETY: its header has the length in the second word.
    let length = unsafe { u32::from_be_bytes(start.add(4).cast::<[u8; 4]>().read_unaligned()) } as usize;
    // SAFETY: as the caller promises. One that is longer is cut off, and then read as far as it goes.
    unsafe { core::slice::from_raw_parts(start, length.min(TREE_LIMIT)) }
}
