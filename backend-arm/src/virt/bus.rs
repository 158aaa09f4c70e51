//! Whose registers are where.

use hv_core::addr::Gpa;

use super::layout::{GICD, GICD_BYTES, GICR, GICR_BYTES, UART, UART_BYTES};

/// Whose register, and its offset there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The interrupt controller's distributor.
    Distributor(u64),
    /// The redistributor of this vCPU.
    Redistributor(u16, u64),
    /// The console.
    Uart(u64),
}

impl Device {
    /// What an access meets in a VM of so many vCPUs; `None` if nothing is there.
    #[must_use]
    pub fn at(gpa: Gpa, vcpus: u16) -> Option<Self> {
        let within = |base: Gpa, bytes: u64| gpa.0.checked_sub(base.0).filter(|offset| *offset < bytes);
        let gicr = GICR_BYTES * u64::from(vcpus);
        None.or(within(GICD, GICD_BYTES).map(Self::Distributor))
            .or(within(GICR, gicr).map(|at| Self::Redistributor((at / GICR_BYTES) as u16, at % GICR_BYTES)))
            .or(within(UART, UART_BYTES).map(Self::Uart))
    }
}
