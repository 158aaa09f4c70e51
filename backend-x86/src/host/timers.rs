//! The machine's counters, and how fast they count.
//!
//! The TSC: by CPUID where it says so (Intel SDM vol. 2A, leaves 15h and 16h); else measured against ACPI's timer (ACPI
//! specification 6.5, 4.8.3.3), or channel 0 of the interval timer (Intel 8254). The local APIC's timer is measured against the
//! same.
#![expect(unsafe_code, reason = "device registers")]

use core::arch::x86_64::__cpuid;

use x86_64::instructions::port::Port;

use super::apic;
use super::rates::{Counter, compare};
use crate::machine::alarm::Rates;
use crate::machine::clock;

/// What is believed of a TSC.
const SLOWEST: u64 = 10_000_000;
const FASTEST: u64 = 1 << 34;

/// Nothing says how fast the TSC counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

impl core::fmt::Display for Unknown {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("nothing says how fast the TSC counts: not CPUID, no ACPI timer, no interval timer")
    }
}

/// Finds out. `acpi` is the port of ACPI's timer. Once, on the boot CPU, whose APIC is open.
pub fn find(acpi: Option<u16>) -> Result<Rates, Unknown> {
    let ticks_per_second = told()
        .or_else(|| measure(acpi, &mut || clock::now().0))
        .filter(|hz| (SLOWEST..FASTEST).contains(hz))
        .ok_or(Unknown)?;
    let timer_per_second = if apic::has_deadline() { 0 } else { local(acpi).ok_or(Unknown)? };
    Ok(Rates { ticks_per_second, timer_per_second })
}

/// What CPUID says.
fn told() -> Option<u64> {
    let last = __cpuid(0).eax;
    if last < 0x15 {
        return None;
    }
    let ratio = __cpuid(0x15);
    if ratio.eax != 0 && ratio.ebx != 0 && ratio.ecx != 0 {
        return Some(u64::from(ratio.ecx) * u64::from(ratio.ebx) / u64::from(ratio.eax));
    }
    // In MHz.
    (last >= 0x16).then(|| u64::from(__cpuid(0x16).eax & 0xffff) * 1_000_000).filter(|hz| *hz != 0)
}

/// What a counter counts in a second, by whatever timer there is.
fn measure(acpi: Option<u16>, counter: &mut dyn FnMut() -> u64) -> Option<u64> {
    acpi.and_then(|port| compare(&mut PowerTimer(port), counter)).or_else(|| compare(&mut Channel0, counter))
}

/// Ticks of the local APIC's timer in a second. It comes round only after a measurement of seconds.
fn local(acpi: Option<u16>) -> Option<u64> {
    apic::after(u32::MAX);
    let hz = measure(acpi, &mut || u64::from(u32::MAX - apic::left()));
    apic::stop();
    hz
}

/// ACPI's timer, at this port. It has 24 bits, or more.
struct PowerTimer(u16);

impl Counter for PowerTimer {
    fn hz(&self) -> u64 {
        3_579_545
    }

    fn mask(&self) -> u32 {
        0xff_ffff
    }

    fn begin(&mut self) {}

    fn read(&mut self) -> Option<u32> {
        // SAFETY: reads a counter where the tables say that it is.
        let ticks: u32 = unsafe { Port::new(self.0).read() };
        Some(ticks & self.mask())
    }
}

/// Channel 0 of the interval timer, whose interrupt is masked: it counts down once, in 55 ms.
struct Channel0;

/// Its counter, and the command register.
const COUNTER: u16 = 0x40;
const COMMAND: u16 = 0x43;
/// Both bytes, mode 0: the output rises when the count is over.
const ONCE: u8 = 0x30;
/// Its status and count are what is read next; in the status, the output, and that the count has not begun.
const READ_BACK: u8 = 0xc2;
const OUTPUT: u8 = 1 << 7;

impl Counter for Channel0 {
    fn hz(&self) -> u64 {
        1_193_182
    }

    fn mask(&self) -> u32 {
        0xffff
    }

    fn begin(&mut self) {
        put(COMMAND, ONCE);
        put(COUNTER, u8::MAX);
        put(COUNTER, u8::MAX);
    }

    /// Where there is no such timer its output is up: `None`.
    fn read(&mut self) -> Option<u32> {
        put(COMMAND, READ_BACK);
        let (status, low, high) = (get(COUNTER), get(COUNTER), get(COUNTER));
        (status & OUTPUT == 0).then(|| self.mask() - u32::from(u16::from_le_bytes([low, high])))
    }
}

fn put(port: u16, value: u8) {
    // SAFETY: the interval timer's ports, which nobody else uses; or nobody's.
    unsafe { Port::new(port).write(value) };
}

fn get(port: u16) -> u8 {
    // SAFETY: as above; reading changes nothing.
    unsafe { Port::new(port).read() }
}
