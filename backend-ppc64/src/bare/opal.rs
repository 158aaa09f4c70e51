//! Firmware of bare machines (skiboot, "OPAL API"): console, power, CPUs, the clock.
//!
//! Calls are made in real mode, and may be made by several CPUs at once. Buffers are real addresses; numbers in memory are
//! big-endian.
#![expect(unsafe_code, reason = "calls firmware at the entry point that it handed over")]

use hv_core::machine::Console;

use crate::hash::Layout;

unsafe extern "C" {
    fn trivet_call_opal(token: u64, a: u64, b: u64, c: u64, base: u64, entry: u64) -> i64;
}

const CONSOLE_WRITE: u64 = 1;
const CONSOLE_READ: u64 = 2;
const RTC_READ: u64 = 3;
const CEC_POWER_DOWN: u64 = 5;
const POLL_EVENTS: u64 = 10;
const START_CPU: u64 = 41;
const REINIT_CPUS: u64 = 70;

/// Status of a call that was carried out.
const SUCCESS: i64 = 0;
/// A device wants to be asked again, after events were polled.
const BUSY_EVENT: i64 = -12;
/// How often.
const TRIES: usize = 1000;

/// REINIT_CPUS: interrupts in hypervisor state are taken little-endian.
const HILE_LE: u64 = 1 << 1;
/// REINIT_CPUS: processors will use radix tables.
const MMU_RADIX: u64 = 1 << 3;

/// Firmware, as it described itself.
#[derive(Clone, Copy, Debug)]
pub struct Opal {
    base: u64,
    entry: u64,
}

impl Opal {
    /// Takes what skiboot passes in r8 and r9.
    ///
    /// # Safety
    /// The CPU was entered by skiboot with these values, and nothing of its memory is ever overwritten.
    #[must_use]
    pub const unsafe fn new(base: u64, entry: u64) -> Self {
        Self { base, entry }
    }

    /// # Safety
    /// Buffers that the call is given are alive and of the size that it expects.
    unsafe fn call(&self, token: u64, a: u64, b: u64, c: u64) -> i64 {
        // SAFETY: `new` promises the entry point, and the caller the buffers.
        unsafe { trivet_call_opal(token, a, b, c, self.base, self.entry) }
    }

    /// Lets firmware see to its devices.
    fn poll(&self) {
        // SAFETY: no buffers.
        unsafe { self.call(POLL_EVENTS, 0, 0, 0) };
    }

    /// Switches the machine off.
    pub fn power_off(&self) -> ! {
        loop {
            // SAFETY: no buffers.
            unsafe { self.call(CEC_POWER_DOWN, 0, 0, 0) };
            // The request goes out while events are polled; one that got lost is made again.
            for _ in 0..=u16::MAX {
                self.poll();
            }
        }
    }

    /// Has the calling CPU and those that have not been started take interrupts little-endian and, if they know them, use
    /// radix tables.
    pub fn little_endian(&self, layout: Layout) -> Result<(), i64> {
        let radix = if layout == Layout::Isa207 { 0 } else { MMU_RADIX };
        // SAFETY: no buffers; the caller runs with interrupts off and translation off, which is all that it changes.
        match unsafe { self.call(REINIT_CPUS, HILE_LE | radix, 0, 0) } {
            SUCCESS => Ok(()),
            status => Err(status),
        }
    }

    /// Starts the CPU with this number at `entry`, big-endian and in real mode.
    ///
    /// # Safety
    /// What is at `entry` may run on another CPU.
    pub unsafe fn start_cpu(&self, number: u32, entry: u64) -> Result<(), i64> {
        // SAFETY: no buffers; the code is the caller's promise.
        match unsafe { self.call(START_CPU, number.into(), entry, 0) } {
            SUCCESS => Ok(()),
            status => Err(status),
        }
    }

    /// Seconds since 1970 by the machine's calendar clock, if it has one.
    pub fn time_of_day(&self) -> Option<u64> {
        let (mut date, mut time) = (0_u32, 0_u64);
        for _ in 0..TRIES {
            let date_at = (&raw mut date).expose_provenance() as u64;
            let time_at = (&raw mut time).expose_provenance() as u64;
            // SAFETY: both are alive, and of the size that the call fills.
            match unsafe { self.call(RTC_READ, date_at, time_at, 0) } {
                SUCCESS => break,
                BUSY_EVENT => self.poll(),
                _ => return None,
            }
        }
        // SAFETY: live locals, written by firmware behind the compiler's back.
        let (date, time) = unsafe { ((&raw const date).read_volatile(), (&raw const time).read_volatile()) };
        let [century, year, month, day] = date.to_ne_bytes().map(decimal);
        let [hour, minute, second, ..] = time.to_ne_bytes().map(decimal);
        hv_core::calendar::to_seconds(century * 100 + year, month, day, hour, minute, second)
    }
}

/// A byte of two decimal digits.
fn decimal(byte: u8) -> u32 {
    u32::from(byte >> 4) * 10 + u32::from(byte & 0xf)
}

impl Console for Opal {
    fn write(&self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..)
            && !rest.is_empty()
        {
            let mut length = (rest.len() as u64).to_be();
            let length_at = (&raw mut length).expose_provenance() as u64;
            // SAFETY: the buffers are alive during the call, at real addresses.
            let status = unsafe { self.call(CONSOLE_WRITE, 0, length_at, rest.as_ptr().expose_provenance() as u64) };
            // SAFETY: a live local, written by firmware behind the compiler's back.
            let written = u64::from_be(unsafe { (&raw const length).read_volatile() });
            if status == SUCCESS {
                at += written as usize;
            }
            self.poll();
        }
    }

    fn read(&self, into: &mut [u8]) -> usize {
        let mut length = (into.len() as u64).to_be();
        let length_at = (&raw mut length).expose_provenance() as u64;
        self.poll();
        // SAFETY: the buffers are alive during the call, at real addresses.
        let status = unsafe { self.call(CONSOLE_READ, 0, length_at, into.as_mut_ptr().expose_provenance() as u64) };
        // SAFETY: a live local, written by firmware behind the compiler's back.
        let read = u64::from_be(unsafe { (&raw const length).read_volatile() });
        if status == SUCCESS { (read as usize).min(into.len()) } else { 0 }
    }
}
