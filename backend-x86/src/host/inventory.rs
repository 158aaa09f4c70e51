//! What the machine is made of, as far as Trivet uses it: from what the loader hands over and from ACPI's tables.

use alloc::vec::Vec;
use core::ops::Range;

use super::acpi::{Acpi, IoApic, Line, PowerOff};
use super::handover::{Handover, NoHandover};
use super::physical::Physical;

/// The machine. Addresses are physical addresses in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// RAM, as the loader tells of it.
    pub memory: Vec<Range<u64>>,
    /// APIC identifiers of the CPUs, the boot CPU's first.
    pub cpus: Vec<u32>,
    /// A page of RAM below 1 MiB where CPUs can start, by its number. Firmware's data and code are at the ends of that MiB.
    pub start_page: Option<u8>,
    /// Where the loader put the bundle.
    pub bundle: Option<Range<u64>>,
    /// The I/O APICs.
    pub io_apics: Vec<IoApic>,
    /// The console's interrupt.
    pub console: Line,
    /// Port of ACPI's timer.
    pub timer: Option<u16>,
    /// How to switch off.
    pub power_off: Option<PowerOff>,
}

/// The interrupt of the first serial port on the ISA bus.
const CONSOLE_INTERRUPT: u8 = 4;
/// As many CPUs as Trivet has room for.
const MOST_CPUS: usize = hv_core::epoch::MAX_CPUS;
/// Pages of the first MiB where a CPU may start: above firmware's data, below the EBDA and video memory.
const START_PAGES: Range<u8> = 0x08..0x90;

impl Inventory {
    /// Finds out. `magic` and `at` are `trivet_boot`'s arguments; `this_cpu` is the caller's APIC identifier. A machine
    /// without ACPI's tables has one CPU, and a console without interrupts.
    pub fn read(p: &impl Physical, magic: u32, at: u64, this_cpu: u32) -> Result<Self, NoHandover> {
        let Handover { memory, bundle, rsdp } = Handover::read(p, magic, at)?;
        let acpi = Acpi::read(p, rsdp).unwrap_or_default();
        let cpus = cpus(this_cpu, &acpi.cpus);
        let start_page = start_page(&memory, bundle.as_ref());
        let console = acpi.line(CONSOLE_INTERRUPT);
        let Acpi { io_apics, timer, power_off, .. } = acpi;
        Ok(Self { memory, cpus, start_page, bundle, io_apics, console, timer, power_off })
    }
}

/// The CPUs, each once: `this` one first, the others as they are `listed`, which may be in two forms.
fn cpus(this: u32, listed: &[u32]) -> Vec<u32> {
    let mut cpus = Vec::from([this]);
    for id in listed {
        if !cpus.contains(id) && cpus.len() < MOST_CPUS {
            cpus.push(*id);
        }
    }
    cpus
}

/// The highest page that is RAM, and not the bundle's.
fn start_page(memory: &[Range<u64>], bundle: Option<&Range<u64>>) -> Option<u8> {
    START_PAGES.rev().find(|page| {
        let (start, end) = (u64::from(*page) << 12, (u64::from(*page) + 1) << 12);
        let is_bundle = bundle.is_some_and(|bundle| bundle.start < end && start < bundle.end);
        !is_bundle && memory.iter().any(|r| r.start <= start && end <= r.end)
    })
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
