//! Where things are in a guest's physical memory, and what its vCPUs are called.
//!
//! RAM is from 0 up, devices are from [`DEVICES`] up: an address alone says which it is.

use hv_core::addr::Gpa;

/// Everything from here on is a device's, or nobody's: a second-stage fault here is an access to a device.
pub const DEVICES: Gpa = Gpa(0x80_0000_0000);
/// The distributor's registers.
pub const GICD: Gpa = Gpa(DEVICES.0);
/// Their length in bytes.
pub const GICD_BYTES: u64 = 0x1_0000;
/// The first redistributor's registers; each vCPU's follow those of the one before.
pub const GICR: Gpa = Gpa(DEVICES.0 + 0x10_0000);
/// Bytes of one redistributor: a frame of its own registers, and one of the SGIs' and PPIs'.
pub const GICR_BYTES: u64 = 0x2_0000;
/// The console's registers.
pub const UART: Gpa = Gpa(DEVICES.0 + 0x100_0000);
/// Their length in bytes.
pub const UART_BYTES: u64 = 0x1000;
/// The console's interrupt, an SPI.
pub const UART_INTID: u32 = 33;

/// vCPUs to a group of affinity level 0: as many as one write of ICC_SGI1R_EL1 can name.
pub const GROUP: u16 = 16;

/// The affinity of vCPU `number`, as GICD_IROUTER and MPIDR_EL1 have it: level 3 in bits 39:32, then 23:0.
#[must_use]
pub const fn affinity(number: u16) -> u64 {
    let (one, zero) = (number / GROUP, number % GROUP);
    (one as u64) << 8 | zero as u64
}

/// The vCPU of this affinity, if there can be one; MPIDR_EL1's other bits must be clear.
#[must_use]
#[inline]
pub const fn number(affinity: u64) -> Option<u16> {
    let (one, zero) = (affinity >> 8, affinity & 0xff);
    if one > 0xff || zero >= GROUP as u64 { None } else { Some(one as u16 * GROUP + zero as u16) }
}

/// MPIDR_EL1 of vCPU `number` (bit 31 is RES1; not a uniprocessor, no threads).
#[must_use]
pub const fn mpidr(number: u16) -> u64 {
    affinity(number) | 1 << 31
}
