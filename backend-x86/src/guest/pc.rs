//! What one VM owns beside memory and vCPUs, and the ways to it: device registers in memory, ports, model-specific registers.
//!
//! All of it is logic over [`Services`], tested on the build machine against a double. How a vCPU uses it:
//! - an access to memory that is not there becomes [`Pc::read`] or [`Pc::write`], IN and OUT [`Pc::input`] and [`Pc::output`],
//!   RDMSR and WRMSR [`Pc::read_msr`] and [`Pc::write_msr`];
//! - what waits for it comes from its [`Local`] and [`Pc::apics`], as [`crate::apic`] says.
//!
//! Each of these may wake other vCPUs, and does so with no lock held. The calling vCPU looks at its own APIC before it enters
//! the guest, and is not woken.
//!
//! Where nothing is, reads give ones and writes are lost, as on a PC's bus. Everything a guest passes is hostile: every number
//! is looked up, every offset has an answer.

use hv_core::addr::Gpa;
use hv_core::machine::Instant;
use hv_core::sync::{AtomicU64, Mutex, Ordering};
use hv_core::vcpu::exit::{End, Next};
use hv_core::vcpu::services::Services;

use super::layout::power;
use super::pit::{self, Pit, Ticks};
use super::rtc::{self, Rtc};
use super::told::{self, Told};
use crate::apic::{self, Apics, Clock, Local, Outcome, Rouse};
use crate::bus::{GeneralProtection, Level, Width};
use crate::ioapic::{self, IoApic};
use crate::policy::msr::{APIC_BASE, Noted, Owner, TSC_DEADLINE, owner};
use crate::uart::{self, Effect, Uart};

/// Sleep control: enter the sleep of the kind in bits 4:2.
const SLEEP_ENABLE: u8 = 1 << 5;

/// The machine of one VM. Shared by all of its vCPUs.
#[derive(Debug)]
pub struct Pc {
    apics: Apics,
    /// Taken before the I/O APIC's lock, and released before anybody is called but for what was typed.
    console: Mutex<Console>,
    io: Mutex<IoApic>,
    pit: Mutex<Pit>,
    rtc: Rtc,
    noted: Noted,
    unknown: AtomicU64,
}

#[derive(Debug)]
struct Console {
    uart: Uart,
    /// The line as the I/O APIC knows it.
    line: Level,
}

/// Who answers for a model-specific register that the guest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// The machine, like this.
    Here(T),
    /// The vCPU: it switches the register.
    Switched,
    /// The vCPU: it is the time-stamp counter.
    Clock,
    /// Nobody yet, because memory is short: the guest is to try again.
    Again,
}

impl Pc {
    /// The machine of a VM that has just been switched on; `None` for an impossible number of vCPUs, or without memory.
    #[must_use]
    pub fn new(vcpus: u16) -> Option<Self> {
        Some(Self {
            apics: Apics::new(vcpus)?,
            console: Mutex::new(Console { uart: Uart::new(), line: Level::Low }),
            io: Mutex::new(IoApic::new()),
            pit: Mutex::new(Pit::new()),
            rtc: Rtc::new(),
            noted: Noted::new(),
            unknown: AtomicU64::new(0),
        })
    }

    /// The shared sides of the local APICs.
    #[inline]
    #[must_use]
    pub const fn apics(&self) -> &Apics {
        &self.apics
    }

    /// The vCPU whose APIC is `local` reads memory where there is none.
    pub fn read(&self, local: &mut Local, gpa: Gpa, width: Width, s: &dyn Services) -> u64 {
        match Device::at(gpa, local) {
            Some(Device::LocalApic(offset)) => local.read(&self.apics, offset, width, s.now()),
            Some(Device::IoApic(offset)) => self.io.lock().read(offset, width),
            None => self.nothing(width),
        }
    }

    /// The same vCPU writes there.
    pub fn write(&self, local: &mut Local, gpa: Gpa, width: Width, value: u64, s: &dyn Services) {
        match Device::at(gpa, local) {
            Some(Device::LocalApic(offset)) => {
                let outcome = local.write(&self.apics, offset, width, value, s.now());
                self.carry_out(local.number(), outcome, s);
            }
            Some(Device::IoApic(offset)) => {
                let rouse = self.io.lock().write(&self.apics, offset, width, value);
                rouse.carry_out(Some(local.number()), &self.apics, s);
            }
            None => _ = self.nothing(width),
        }
    }

    /// vCPU `vcpu` reads a port. All but the timer has 8 bits: wider accesses are several.
    pub fn input(&self, vcpu: u16, port: u16, width: Width, s: &dyn Services) -> u32 {
        if let Some(byte @ 0..4) = port.checked_sub(power::TIMER) {
            // Read as a whole: it counts on meanwhile.
            return timer(s) >> (8 * byte) & width.mask() as u32;
        }
        (0..width.bytes().min(4) as u16).rev().fold(0, |value, n| {
            let byte = self.input_byte(vcpu, port.wrapping_add(n), s);
            value << 8 | u32::from(byte)
        })
    }

    fn input_byte(&self, vcpu: u16, port: u16, s: &dyn Services) -> u8 {
        match port {
            uart::PORT..=UART_LAST => self.with_uart(vcpu, s, |uart| uart.read(port - uart::PORT, s)),
            pit::COUNT | pit::GATE => self.pit.lock().read(port, ticks(s)).unwrap_or(u8::MAX),
            rtc::DATA => self.rtc.read(s),
            power::SLEEP_STATUS => 0,
            _ => self.nothing(Width::Byte) as u8,
        }
    }

    /// The same vCPU writes a port; what it does next.
    pub fn output(&self, vcpu: u16, port: u16, width: Width, value: u32, s: &dyn Services) -> Next {
        for n in 0..width.bytes().min(4) as u16 {
            let next = self.output_byte(vcpu, port.wrapping_add(n), (value >> (8 * n)) as u8, s);
            if next != Next::Resume {
                return next;
            }
        }
        Next::Resume
    }

    fn output_byte(&self, vcpu: u16, port: u16, value: u8, s: &dyn Services) -> Next {
        match port {
            uart::PORT..=UART_LAST => match self.with_uart(vcpu, s, |uart| uart.write(port - uart::PORT, value)) {
                Effect::None => {}
                Effect::Send(byte) => s.console_write(&[byte]),
            },
            pit::COUNT | pit::COMMAND | pit::GATE => self.pit.lock().write(port, value, ticks(s)),
            rtc::INDEX => self.rtc.select(value),
            power::SLEEP_CONTROL if value & SLEEP_ENABLE != 0 && value >> 2 & 7 == power::SOFT_OFF => {
                return Next::End(End::PowerOff);
            }
            power::RESET if value == power::RESET_VALUE => return Next::End(End::Reboot),
            _ => _ = self.nothing(Width::Byte),
        }
        Next::Resume
    }

    /// RDMSR.
    pub fn read_msr(&self, local: &Local, msr: u32, now: Instant) -> Result<Answer<u64>, GeneralProtection> {
        Ok(match owner(msr) {
            Owner::Switched => Answer::Switched,
            Owner::Clock => Answer::Clock,
            Owner::Fixed(value) | Owner::Constant(value) => Answer::Here(value),
            Owner::Told => Answer::Here(0),
            Owner::Apic => Answer::Here(match msr {
                APIC_BASE => local.base(),
                TSC_DEADLINE => local.deadline(),
                _ => local.read_msr(&self.apics, msr, now)?,
            }),
            Owner::Nobody => return Err(self.refuse()),
        })
    }

    /// WRMSR.
    #[inline]
    pub fn write_msr(
        &self,
        local: &mut Local,
        msr: u32,
        value: u64,
        clock: Clock,
        s: &dyn Services,
    ) -> Result<Answer<()>, GeneralProtection> {
        match owner(msr) {
            Owner::Switched => return Ok(Answer::Switched),
            Owner::Clock => return Ok(Answer::Clock),
            Owner::Fixed(_) => {}
            Owner::Told => match told::tell(msr, value, clock.offset, s)? {
                Told::Done => {}
                Told::Again => return Ok(Answer::Again),
            },
            Owner::Apic => match msr {
                APIC_BASE => local.set_base(&self.apics, value)?,
                TSC_DEADLINE => local.set_deadline(value, clock),
                _ => {
                    let outcome = local.write_msr(&self.apics, msr, value, clock.now)?;
                    self.carry_out(local.number(), outcome, s);
                }
            },
            Owner::Constant(_) | Owner::Nobody => return Err(self.refuse()),
        }
        Ok(Answer::Here(()))
    }

    /// True if a refused access to a register is worth a word to the operator: the first one.
    #[must_use]
    pub fn is_news(&self, msr: u32) -> bool {
        self.noted.is_first(msr)
    }

    /// New input waits on the console. Returns who is to be woken.
    pub fn typed(&self) -> Rouse {
        let mut console = self.console.lock();
        console.uart.typed();
        self.settle(&mut console)
    }

    /// Accesses that met nothing, for statistics.
    #[must_use]
    pub fn unknown_calls(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Does what the use of a local APIC has left to do.
    #[inline]
    fn carry_out(&self, vcpu: u16, outcome: Outcome, s: &dyn Services) {
        outcome.rouse.carry_out(Some(vcpu), &self.apics, s);
        if let Some(vector) = outcome.ended {
            let rouse = self.io.lock().end(&self.apics, vector);
            rouse.carry_out(Some(vcpu), &self.apics, s);
        }
    }

    /// Does something with the console, and lets the I/O APIC know what has become of its line.
    fn with_uart<R>(&self, by: u16, s: &dyn Services, access: impl FnOnce(&mut Uart) -> R) -> R {
        let mut console = self.console.lock();
        let result = access(&mut console.uart);
        let rouse = self.settle(&mut console);
        drop(console);
        rouse.carry_out(Some(by), &self.apics, s);
        result
    }

    fn settle(&self, console: &mut Console) -> Rouse {
        let line = console.uart.line();
        if line == console.line {
            return Rouse::NOBODY;
        }
        console.line = line;
        self.io.lock().set_line(&self.apics, uart::PIN, line)
    }

    /// Nothing is there.
    fn nothing(&self, width: Width) -> u64 {
        self.unknown.fetch_add(1, Ordering::Relaxed);
        width.mask()
    }

    fn refuse(&self) -> GeneralProtection {
        self.unknown.fetch_add(1, Ordering::Relaxed);
        GeneralProtection
    }
}

const UART_LAST: u16 = uart::PORT + uart::PORTS - 1;

/// ACPI's timer (ACPI specification 6.4, 4.8.2.1): 24 bits, at a fixed rate.
fn timer(s: &dyn Services) -> u32 {
    const RATE: u64 = 3_579_545;
    pit::counts(s.now().0, RATE, s.ticks_per_second()) as u32 & 0xff_ffff
}

fn ticks(s: &dyn Services) -> Ticks {
    Ticks { now: s.now(), per_second: s.ticks_per_second() }
}

/// Whose registers, and the offset there.
enum Device {
    LocalApic(u64),
    IoApic(u64),
}

impl Device {
    /// What is at an address, for the vCPU with this local APIC.
    fn at(gpa: Gpa, local: &Local) -> Option<Self> {
        let within = |base: Gpa, bytes: u64| gpa.0.checked_sub(base.0).filter(|offset| *offset < bytes);
        None.or(within(apic::BASE, apic::BYTES).filter(|_| local.is_mapped()).map(Self::LocalApic)).or(within(
            ioapic::BASE,
            ioapic::BYTES,
        )
        .map(Self::IoApic))
    }
}

#[cfg(test)]
mod tests;
