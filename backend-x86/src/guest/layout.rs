//! Where things are in a guest's physical memory and among its ports.

use core::ops::Range;

use hv_core::addr::Gpa;

/// There is no RAM here: the I/O APIC's and the local APICs' registers are. RAM beyond it goes on at its end.
pub const HOLE: Range<Gpa> = Gpa(3 << 30)..Gpa(4 << 30);

/// What systems have always found between RAM: a frame buffer and read-only memory. It is RAM, but nobody is told so.
pub const LEGACY: Range<Gpa> = Gpa(0xa_0000)..Gpa(0x10_0000);

/// Where RAM of so many bytes lies; the second piece may be empty.
#[must_use]
pub fn ram(bytes: u64) -> [Range<Gpa>; 2] {
    let below = bytes.min(HOLE.start.0);
    [Gpa(0)..Gpa(below), HOLE.end..Gpa(HOLE.end.0.saturating_add(bytes - below))]
}

/// ACPI's ports: sleep control and status, reset, the timer.
pub mod power {
    /// Sleep control: the kind of sleep in bits 4:2, to be entered with bit 5.
    pub const SLEEP_CONTROL: u16 = 0x600;
    /// Sleep status.
    pub const SLEEP_STATUS: u16 = 0x601;
    /// Reset.
    pub const RESET: u16 = 0x602;
    /// ACPI's timer, 32 bits.
    pub const TIMER: u16 = 0x608;

    /// The kind of sleep that is soft-off (S5).
    pub const SOFT_OFF: u8 = 5;
    /// What is written to the reset register.
    pub const RESET_VALUE: u8 = 1;
}
