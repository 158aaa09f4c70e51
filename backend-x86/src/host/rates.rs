//! How fast the machine's counters count.
//!
//! The TSC: by CPUID where it says so (Intel SDM vol. 2A, leaves 15h and 16h); else measured against a counter whose speed
//! is known: channel 0 of the interval timer (Intel 8254), or ACPI's timer. The local APIC's timer is measured against the TSC.
//! Whoever measures may lose the CPU meanwhile, beneath us; so each measurement is made five times, and the middle one
//! counts.
#![expect(unsafe_code, reason = "device registers")]

use core::arch::x86_64::__cpuid;

use x86_64::instructions::port::Port;

use super::apic;
use crate::machine::alarm::Rates;
use crate::machine::clock;

/// Ticks of the interval timer and of ACPI's in a second.
const PIT_HZ: u64 = 1_193_182;
const ACPI_HZ: u64 = 3_579_545;
/// A measurement takes a two-hundredth of a second.
const PART: u64 = 200;
const TIMES: usize = 5;
/// No TSC is slower than this, and nothing that is measured takes longer than a second of one that is as fast as this.
const SLOWEST: u64 = 10_000_000;
const FASTEST: u64 = 1 << 34;

/// Channel 0's counter, and the command register.
const CHANNEL0: u16 = 0x40;
const COMMAND: u16 = 0x43;
/// Channel 0, both bytes, mode 0: the output rises when the count is over. Its interrupt is masked.
const ONCE: u8 = 0x30;
/// The status of channel 0 is what is read next; in it, the output.
const READ_BACK: u8 = 0xe2;
const OUTPUT: u8 = 1 << 7;
/// ACPI's timer has 24 bits, or more.
const ACPI_BITS: u32 = 0xff_ffff;

/// Nothing says how fast the TSC counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

impl core::fmt::Display for Unknown {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("nothing says how fast the TSC counts: not CPUID, no interval timer, no ACPI timer")
    }
}

/// Finds out. `acpi` is the port of ACPI's timer. Once, on the boot CPU, whose APIC is open.
pub fn find(acpi: Option<u16>) -> Result<Rates, Unknown> {
    let ticks_per_second = told()
        .or_else(|| middle(|| pit(PIT_HZ / PART)).map(|ticks| ticks * PIT_HZ / (PIT_HZ / PART)))
        .or_else(|| {
            let port = acpi?;
            middle(|| power_timer(port, (ACPI_HZ / PART) as u32)).map(|ticks| ticks * ACPI_HZ / (ACPI_HZ / PART))
        })
        .filter(|hz| (SLOWEST..FASTEST).contains(hz))
        .ok_or(Unknown)?;
    let timer_per_second = if apic::has_deadline() { 0 } else { local(ticks_per_second) };
    Ok(Rates { ticks_per_second, timer_per_second })
}

/// The middle one of several measurements that all succeed.
fn middle(mut measure: impl FnMut() -> Option<u64>) -> Option<u64> {
    let mut all = [0; TIMES];
    for one in &mut all {
        *one = measure()?;
    }
    all.sort_unstable();
    Some(all[TIMES / 2])
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

/// TSC ticks in `count` ticks of the interval timer. `None` if there is no such timer.
fn pit(count: u64) -> Option<u64> {
    put(COMMAND, ONCE);
    put(CHANNEL0, count as u8);
    put(CHANNEL0, (count >> 8) as u8);
    let begin = clock::now().0;
    let end = loop {
        put(COMMAND, READ_BACK);
        let status = get(CHANNEL0);
        let now = clock::now().0;
        if status & OUTPUT != 0 {
            break now;
        }
        if now - begin > FASTEST / PART {
            return None;
        }
    };
    // Where there is no such timer its output is up at once.
    Some(end - begin).filter(|ticks| *ticks > SLOWEST / PART)
}

/// The same of ACPI's timer.
fn power_timer(port: u16, count: u32) -> Option<u64> {
    let timer = || {
        // SAFETY: reads a counter where the tables say that it is.
        let ticks: u32 = unsafe { Port::new(port).read() };
        ticks
    };
    let (first, begin) = (timer(), clock::now().0);
    loop {
        let passed = timer().wrapping_sub(first) & ACPI_BITS;
        let now = clock::now().0;
        if passed >= count {
            return Some((now - begin) * u64::from(count) / u64::from(passed));
        }
        if now - begin > FASTEST / PART {
            return None;
        }
    }
}

/// Ticks of the local APIC's timer in a second.
fn local(ticks_per_second: u64) -> u64 {
    let measure = || {
        let begin = clock::now().0;
        apic::after(u32::MAX);
        while clock::now().0 - begin < ticks_per_second / PART {
            core::hint::spin_loop();
        }
        let (left, end) = (apic::left(), clock::now().0);
        apic::stop();
        Some(u64::from(u32::MAX - left) * ticks_per_second / (end - begin))
    };
    middle(measure).unwrap_or(0)
}

fn put(port: u16, value: u8) {
    // SAFETY: the interval timer's ports, which nobody else uses; or nobody's.
    unsafe { Port::new(port).write(value) };
}

fn get(port: u16) -> u8 {
    // SAFETY: as above; reading changes nothing.
    unsafe { Port::new(port).read() }
}
