//! The operator's console: a PL011 (DDI 0183), set up by firmware as far as speed and format go.
//!
//! Six lines a register and no state, so that any CPU may write at any time, a panic among them; a driver that owns the device
//! could not.
#![expect(unsafe_code, reason = "device registers")]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_core::machine::Console;

use super::inventory::Uart;
use super::map;

/// Data.
const DR: u64 = 0x00;
/// Flags: nothing received, no room to send.
const FR: u64 = 0x18;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
/// Which interrupts are let through: something received, and it has waited.
const IMSC: u64 = 0x38;
const IMSC_RECEIVE: u32 = 1 << 4 | 1 << 6;
/// Length of the register file.
const LENGTH: u64 = 0x1000;

/// The console. Silent until it is told where the device is.
#[derive(Debug)]
pub struct Pl011 {
    /// 0: there is none.
    base: AtomicU64,
}

impl Pl011 {
    /// A console without a device.
    #[must_use]
    pub const fn new() -> Self {
        Self { base: AtomicU64::new(0) }
    }

    /// Says where the device is.
    ///
    /// # Safety
    /// There is a PL011, mapped as device memory.
    pub unsafe fn is_at(&self, uart: &Uart) {
        if uart.base.is_multiple_of(4) && uart.base.saturating_add(LENGTH) <= map::SPAN {
            self.base.store(uart.base, Ordering::Relaxed);
        }
    }

    /// Has the device raise its interrupt when something was received.
    pub fn enable_interrupt(&self) {
        if let Some(base) = self.base() {
            // SAFETY: the device's register.
            unsafe { store(base + IMSC, IMSC_RECEIVE) };
        }
    }

    fn base(&self) -> Option<u64> {
        Some(self.base.load(Ordering::Relaxed)).filter(|base| *base != 0)
    }
}

impl Default for Pl011 {
    fn default() -> Self {
        Self::new()
    }
}

impl Console for Pl011 {
    fn write(&self, bytes: &[u8]) {
        let Some(base) = self.base() else { return };
        for byte in bytes {
            // SAFETY: the device's registers.
            unsafe {
                while load(base + FR) & FR_TXFF != 0 {
                    core::hint::spin_loop();
                }
                store(base + DR, u32::from(*byte));
            }
        }
    }

    fn read(&self, into: &mut [u8]) -> usize {
        let Some(base) = self.base() else { return 0 };
        for (n, byte) in into.iter_mut().enumerate() {
            // SAFETY: the device's registers.
            unsafe {
                if load(base + FR) & FR_RXFE != 0 {
                    return n;
                }
                // The upper bits say what was wrong with it.
                *byte = load(base + DR) as u8;
            }
        }
        into.len()
    }
}

/// # Safety
/// A readable device register.
unsafe fn load(at: u64) -> u32 {
    let value;
    // SAFETY: as the caller promises. An instruction that an emulator or hypervisor beneath can decode.
    unsafe { asm!("ldr {0:w}, [{1}]", out(reg) value, in(reg) at, options(nostack)) };
    value
}

/// # Safety
/// A writable device register, and a value that does no harm in it.
unsafe fn store(at: u64, value: u32) {
    // SAFETY: as the caller promises.
    unsafe { asm!("str {0:w}, [{1}]", in(reg) value, in(reg) at, options(nostack)) };
}
