//! The machine that a guest of the Arm backend finds: RAM, a GICv3, a console, PSCI.
//!
//! An unmodified Linux needs a device tree ([`fdt`]), firmware calls ([`psci`]), an interrupt controller
//! ([`crate::vgic`]) and a console (a PL011). All of it is logic over [`Services`]: no `unsafe`, no knowledge of how the
//! guest is entered, tested on the build machine against a double.
//!
//! How a vCPU uses it:
//! - an HVC or SMC becomes [`Virt::psci`], a store to ICC_SGI\<n\>R_EL1 [`Virt::sgi`];
//! - an access to a device becomes [`Virt::read`] or [`Virt::write`]; before it, if [`Virt::shows_interrupts`] says so, the
//!   vCPU's list registers are withdrawn ([`Vgic::withdraw`]);
//! - what waits for it comes from [`Virt::gic`].
//!
//! Everything a guest passes is hostile: every number is looked up, every offset has an answer.

mod bus;
pub mod fdt;
#[cfg(test)]
mod fuzz;
pub mod image;
pub mod layout;
mod pl011;
#[cfg(target_arch = "aarch64")]
mod platform;
pub mod psci;
#[cfg(test)]
mod tests;

use hv_core::addr::Gpa;
use hv_core::sync::{AtomicU64, Mutex, Ordering};
use hv_core::vcpu::exit::Next;
use hv_core::vcpu::services::Services;

use crate::vcpu::mmio::Width;
use crate::vgic::{self, Group, Level, Vgic};
pub use bus::Device;
use pl011::{Effect, Pl011};

/// What one VM owns beside memory and vCPUs. Shared by all of its vCPUs.
#[derive(Debug)]
pub struct Virt {
    vcpus: u16,
    gic: Vgic,
    /// Taken before the controller's lock, and released before anybody is called but for what was typed.
    uart: Mutex<Uart>,
    unknown: AtomicU64,
}

#[derive(Debug)]
struct Uart {
    registers: Pl011,
    /// The line as the interrupt controller knows it.
    line: Level,
}

impl Virt {
    /// The machine of a VM that has just been switched on; `None` for an impossible number of vCPUs, or without memory.
    #[must_use]
    pub fn new(vcpus: u16) -> Option<Self> {
        let uart = Uart { registers: Pl011::new(), line: Level::Low };
        Some(Self { vcpus, gic: Vgic::new(vcpus)?, uart: Mutex::new(uart), unknown: AtomicU64::new(0) })
    }

    /// How many vCPUs there are.
    #[must_use]
    pub const fn vcpus(&self) -> u16 {
        self.vcpus
    }

    /// The interrupt controller.
    #[must_use]
    pub const fn gic(&self) -> &Vgic {
        &self.gic
    }

    /// Carries out the firmware call whose x0 to x3 are in `call`, and says what the vCPU does next.
    #[inline]
    pub fn psci<S: Services>(&self, call: &mut [u64; 4], s: &S) -> Next {
        psci::call(self, call, s)
    }

    /// True if registers at `gpa` show the state of interrupts: a vCPU's are to be withdrawn from its list registers before
    /// it accesses them.
    #[must_use]
    pub const fn shows_interrupts(gpa: Gpa) -> bool {
        gpa.0 >= layout::GICD.0 && gpa.0 < layout::UART.0
    }

    /// vCPU `vcpu` reads a device; `None` if nothing is there.
    pub fn read<S: Services>(&self, vcpu: u16, gpa: Gpa, width: Width, s: &S) -> Option<u64> {
        let device = Device::at(gpa, self.vcpus)?;
        if !gpa.0.is_multiple_of(width.bytes()) {
            return Some(0);
        }
        Some(match device {
            Device::Distributor(at) => self.gic.read_distributor(at, width),
            Device::Redistributor(of, at) => self.gic.read_redistributor(of, at, width),
            Device::Uart(at) => self.with_uart(vcpu, s, |uart| uart.read(at, width, s)),
        })
    }

    /// vCPU `vcpu` writes a device; `None` if nothing is there.
    pub fn write<S: Services>(&self, vcpu: u16, gpa: Gpa, width: Width, value: u64, s: &S) -> Option<()> {
        let device = Device::at(gpa, self.vcpus)?;
        if !gpa.0.is_multiple_of(width.bytes()) {
            return Some(());
        }
        match device {
            Device::Distributor(at) => self.wake(vcpu, self.gic.write_distributor(vcpu, at, width, value), s),
            Device::Redistributor(of, at) => {
                self.wake(vcpu, self.gic.write_redistributor(vcpu, of, at, width, value), s);
            }
            Device::Uart(at) => match self.with_uart(vcpu, s, |uart| uart.write(at, width, value)) {
                Effect::None => {}
                Effect::Send(byte) => s.console_write(&[byte]),
            },
        }
        Some(())
    }

    /// vCPU `vcpu` writes `value` to ICC_SGI1R_EL1 (`group` one: a message of whichever group the receiver has given it), or
    /// to ICC_SGI0R_EL1 or ICC_ASGI1R_EL1 (zero: of group 0 only).
    #[inline]
    pub fn sgi<S: Services>(&self, vcpu: u16, value: u64, group: Group, s: &S) {
        let id = (value >> 24 & 15) as u32;
        let (first, targets) = if value & sgi::ALL_OTHERS != 0 {
            (0, ((1_u64 << self.vcpus) - 1) & !(1 << vcpu))
        } else if let Some(first) = sgi::first(value) {
            (first, value & sgi::TARGETS)
        } else {
            return;
        };
        for n in vgic::lists::bits(targets) {
            let to = first + n as u16;
            if to < self.vcpus && (group == Group::One || self.gic.sgi_group(to, id) == Group::Zero) {
                self.gic.send(to, id);
                if to != vcpu {
                    s.wake(to);
                }
            }
        }
    }

    /// Firmware calls that were not known, for statistics.
    #[must_use]
    pub fn unknown_calls(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// A vCPU executed something that it does not have. Counted with the calls that were not known.
    pub fn count_undefined(&self) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
    }

    /// New input waits on the console. Returns the vCPU to wake, if any.
    #[must_use]
    pub fn typed(&self) -> Option<u16> {
        let mut uart = self.uart.lock();
        uart.registers.typed();
        self.settle(&mut uart)
    }

    /// Does something with the console, and lets the interrupt controller know what has become of its line.
    fn with_uart<S: Services, R>(&self, by: u16, s: &S, access: impl FnOnce(&mut Pl011) -> R) -> R {
        let mut uart = self.uart.lock();
        let result = access(&mut uart.registers);
        let wake = self.settle(&mut uart);
        drop(uart);
        if let Some(vcpu) = wake.filter(|vcpu| *vcpu != by) {
            s.wake(vcpu);
        }
        result
    }

    fn settle(&self, uart: &mut Uart) -> Option<u16> {
        let line = uart.registers.line();
        if line == uart.line {
            return None;
        }
        uart.line = line;
        self.gic.set_line(layout::UART_INTID, line)
    }

    /// Wakes those of a set of vCPUs that are not the one that is running here: it looks before it enters again.
    fn wake<S: Services>(&self, vcpu: u16, vcpus: u32, s: &S) {
        vgic::wake(vcpus & !(1 << vcpu), s);
    }
}

/// ICC_SGI1R_EL1 (IHI 0069).
mod sgi {
    use super::layout;

    /// IRM: all vCPUs but the sender.
    pub const ALL_OTHERS: u64 = 1 << 40;
    /// TargetList: bit n is affinity level 0 of n.
    pub const TARGETS: u64 = 0xffff;

    /// The vCPU that bit 0 of the target list names; `None` if there can be none.
    #[inline(always)]
    pub const fn first(value: u64) -> Option<u16> {
        // RS, the range of level 0: only the first is in use. Levels 3 and 2 likewise.
        let (range, three, two, one) = (value >> 44 & 15, value >> 48 & 0xff, value >> 32 & 0xff, value >> 16 & 0xff);
        if range != 0 { None } else { layout::number(three << 32 | two << 16 | one << 8) }
    }
}
