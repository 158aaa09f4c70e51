//! defmt's global logger: hv-core's, plus the promises that defmt wants of it. The board adds `defmt::timestamp!`.

use hv_core::device::console::Consoles;
use hv_core::log::Logger;

/// Room for a few hundred messages, until some CPU next looks after the console.
static LOG: Logger<8192> = Logger::new();

#[defmt::global_logger]
struct Global;

// SAFETY: `acquire` waits until no other CPU is in a message, and no interrupt handler of Trivet logs, so `write` and
// `release` are called by the CPU that has acquired.
unsafe impl defmt::Logger for Global {
    fn acquire() {
        LOG.acquire();
    }

    unsafe fn flush() {
        // Messages are taken from the ring by whoever looks after the console.
    }

    unsafe fn release() {
        LOG.release();
    }

    unsafe fn write(bytes: &[u8]) {
        LOG.write(bytes);
    }
}

/// Sends what waits to the operator.
pub fn drain(consoles: &Consoles) {
    LOG.ring.drain(|bytes| consoles.log(bytes));
}
