//! Trivet on a PC: ring 0 of an x86-64 machine with SVM or VMX, ACPI tables and a 16550.
//!
//! This file wires objects, in the order in which a boot needs them: the machine's inventory, Trivet's own translations, free
//! memory, interrupts, the clock, the bundle, the hypervisor, the other CPUs. What each of them does is told where it is
//! defined.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the image's entry points, and memory that the loader hands over")]

extern crate alloc;

#[cfg(feature = "conformance")]
mod conformance;
mod cpus;
mod fail;

use backend_x86::X86;
use backend_x86::host::inventory::Inventory;
use backend_x86::host::memory::{Mapped, rtc};
use backend_x86::host::serial::Serial;
use backend_x86::host::{apic, descriptors, map, mmu, routes, timers, vectors};
use backend_x86::machine::clock::{self, microseconds};
use backend_x86::machine::{Found as Parts, X86Machine};
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
enum Pc {}

impl Board for Pc {
    type Isa = X86;

    fn console() -> &'static dyn Console {
        &Serial
    }

    fn start_cpu(id: CpuId) -> Result<(), StartCpuError> {
        cpus::start(id, cpus::schedule)
    }

    fn power_off(verdict: Verdict) -> ! {
        fail::power_off(verdict)
    }
}

/// The machine, for whoever cannot be passed it.
static MACHINE: Once<X86Machine> = Once::new();
/// The page below 1 MiB where CPUs start, if there is one.
static START_PAGE: Once<u8> = Once::new();
/// The hypervisor, for CPUs that come up later and for panics.
static HYPERVISOR: Once<Hypervisor<<Pc as Board>::Isa>> = Once::new();

defmt::timestamp!("{=u64:us}", microseconds());

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

/// The first Rust code, on the boot CPU: EAX and EBX as the loader left them.
#[unsafe(no_mangle)]
extern "C" fn trivet_boot(magic: u32, information: u32) -> ! {
    Serial.open();
    // Firmware and loader may have left a line without an end.
    Serial.write(b"\r\n");
    // SAFETY: no other CPU is up, and interrupts are disabled.
    unsafe {
        descriptors::fill();
        descriptors::load();
        routes::silence();
        apic::find();
        apic::open();
    }
    // SAFETY: what the loader and firmware left is read before memory is given out.
    let inventory = match Inventory::read(&unsafe { Mapped::new() }, magic, information.into(), apic::id()) {
        Ok(found) => found,
        Err(why) => refuse::<Pc>(&why),
    };
    if let Some(how) = inventory.power_off {
        fail::end_by(how);
    }
    if let Some(page) = inventory.start_page {
        START_PAGE.call_once(|| page);
    }

    let image = (&raw const __image_start as u64)..(&raw const __image_end as u64);
    let usable = map::usable(&inventory.memory);
    // SAFETY: once, and no other CPU is up.
    if let Err(why) = unsafe { mmu::switch(&usable, &image) } {
        refuse::<Pc>(&why);
    }
    let mut holes = alloc::vec![image.clone()];
    holes.extend(inventory.bundle.clone());
    let free = free_ranges(&usable, &holes);
    // SAFETY: everything else that is in use was left out.
    let (frames, metadata) = unsafe { memory::frames::<Pc>(&free) };

    let machine = machine(&inventory, frames);
    cpus::open(machine, CpuId(0));
    console_interrupt(&inventory);

    let Some(range) = inventory.bundle.clone() else {
        without_guests(machine, inventory.cpus.len());
    };
    if !usable.iter().any(|r| r.start <= range.start && range.end <= r.end) {
        refuse::<Pc>(&"the bundle of guests lies outside of memory");
    }
    // SAFETY: it is RAM that the loader filled, no allocator hands it out, and nobody writes it.
    let bundle = unsafe { memory::handed(&range) };
    let found = Found {
        memory: &inventory.memory,
        firmware: memory::total(&inventory.memory) - memory::total(&usable),
        image,
        metadata,
        cpus: inventory.cpus.len(),
    };
    let (hypervisor, cpu) = guests::start::<Pc>(machine, &HYPERVISOR, bundle, &found);
    if machine.boot_cpu_keeps_house() { pc_loop::keep_house(hypervisor, &cpu) } else { pc_loop::run(hypervisor, &cpu) }
}

/// Takes the machine over. Not inlined: what it puts together and moves into place is large, and must not stay on
/// the boot CPU's stack, on which everything else will run.
#[inline(never)]
fn machine(inventory: &Inventory, frames: Frames) -> &'static X86Machine {
    let rates = match timers::find(inventory.timer) {
        Ok(rates) => rates,
        Err(why) => refuse::<Pc>(&why),
    };
    clock::counts(rates.ticks_per_second);
    let calendar = backend_x86::host::rtc::seconds(rtc);
    match X86Machine::new(&Parts { cpus: inventory.cpus.clone(), rates, calendar }, frames) {
        Ok(machine) => MACHINE.call_once(|| machine),
        Err(why) => refuse::<Pc>(&why),
    }
}

/// Has the console's interrupt come to the boot CPU, and no other device's to any. Without an I/O APIC it is looked at now and
/// then only.
fn console_interrupt(inventory: &Inventory) {
    // SAFETY: the tables say where I/O APICs are, and what is not memory is mapped as devices.
    unsafe {
        inventory.io_apics.iter().for_each(|apic| routes::mask(apic));
        let to = inventory.cpus.first().copied().unwrap_or(0);
        if routes::send(&inventory.io_apics, inventory.console, vectors::CONSOLE, to) {
            Serial.enable_interrupt();
        }
    }
}

/// Ends a run that was given no guests.
#[cfg(not(feature = "conformance"))]
fn without_guests(_: &'static X86Machine, _cpus: usize) -> ! {
    refuse::<Pc>(&"the machine was started without a bundle of guests (QEMU: -initrd; GRUB: module2)")
}
