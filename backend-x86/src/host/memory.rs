//! Physical memory as the boot CPU sees it, and the ports of the calendar clock: what is read while Trivet finds out what the
//! machine is made of.
#![expect(unsafe_code, reason = "reads memory by its physical address")]

use x86_64::instructions::port::Port;

use super::physical::Physical;

/// What `start.S` has mapped, and what is mapped later in any case.
const MAPPED: u64 = 4 << 30;

/// Memory below 4 GiB, through the identity map.
#[derive(Debug)]
pub struct Mapped(());

impl Mapped {
    /// # Safety
    /// Nobody writes what is read while what it lends is used, and it is used before memory is given out.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl Physical for Mapped {
    fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        if at == 0 || at.checked_add(len as u64)? > MAPPED {
            return None;
        }
        let start = core::ptr::with_exposed_provenance::<u8>(at as usize);
        // SAFETY: mapped; where there is neither memory nor a device, bytes read as ones. As `new`'s caller promises nobody
        // writes there.
        Some(unsafe { core::slice::from_raw_parts(start, len) })
    }
}

/// Reads a register of the calendar clock.
pub fn rtc(register: u8) -> u8 {
    // SAFETY: selects a register and reads it, which changes nothing. Bit 7 stays clear, as firmware left it: NMIs come.
    unsafe {
        Port::new(0x70).write(register);
        Port::new(0x71).read()
    }
}
